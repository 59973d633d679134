//! Taking turns at writing.
//!
//! SQLite lets whoever writes next be found out by chance: the others sleep for longer and longer, and look again. A lock
//! on a file beside it has a queue in the kernel instead, and whoever dies in it is out of it.

use std::fs::{File, TryLockError};
use std::io::{self, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::error::{CallError, Kind};
use crate::place;

const TEXT: &[u8] = b"Turns at writing to the file beside this one.\n";

/// A client's place among those who want to write.
#[derive(Debug)]
pub(crate) struct Turns {
    path: Arc<Path>,
    file: State,
}

#[derive(Debug)]
enum State {
    Closed,
    Open(File),
    /// A thread stands in the queue.
    Queued(oneshot::Receiver<io::Result<File>>),
}

/// The right to write, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a File);

impl Turns {
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: place::turns_of(path).into(), file: State::Closed }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the turn for so long. What has queued for it stays in its place after that, for the next time.
    pub(crate) async fn take(&mut self, limit: Duration) -> Result<Turn<'_>, CallError> {
        let path = self.path.clone();
        let failed = |error| CallError::file("lock", &path, error);
        if let State::Closed = self.file {
            let file =
                place::for_user_alone_file().read(true).write(true).create(true).truncate(false).open(&self.path);
            self.file = State::Open(file.map_err(failed)?);
        }
        if let State::Open(file) = &self.file {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => self.queue()?,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        if let State::Queued(queued) = &mut self.file {
            let Ok(taken) = timeout(limit, queued).await else {
                let reason = format!(
                    "others have been writing for longer than {limit:?}: a process that was stopped in the middle of it \
                     holds up all; `lsof {}` shows who has the file open",
                    self.path.display()
                );
                return Err(CallError::new(Kind::Undone, reason));
            };
            self.file = State::Closed;
            let taken = taken.map_err(|_| failed(io::Error::other("the thread that waits for it has ended")))?;
            self.file = State::Open(taken.map_err(failed)?);
        }
        match &self.file {
            State::Open(file) => Ok(Turn(file)),
            State::Closed | State::Queued(_) => unreachable!("it has been opened and locked"),
        }
    }

    /// Leaves the file to a thread that stands in the queue. Not to one of the runtime's, which would wait for it to end.
    fn queue(&mut self) -> Result<(), CallError> {
        let State::Open(file) = std::mem::replace(&mut self.file, State::Closed) else { return Ok(()) };
        let (sender, receiver) = oneshot::channel();
        let wait = move || {
            let taken = file.lock().map(|()| file);
            let _nobody_waits_any_more = sender.send(taken);
        };
        let thread = std::thread::Builder::new().name("rlock-sqlite-turn".into()).spawn(wait);
        thread.map_err(|error| CallError::file("wait for", &self.path, error))?;
        self.file = State::Queued(receiver);
        Ok(())
    }
}

impl Turn<'_> {
    /// Whether there was a file to write to before, though it may have been deleted since.
    pub(crate) fn is_first(&self) -> bool {
        self.0.metadata().is_ok_and(|metadata| metadata.len() == 0)
    }

    /// Says to those who come later that there is a file.
    pub(crate) fn mark(&self) -> io::Result<()> {
        let mut file = self.0;
        file.write_all(TEXT)
    }

    /// Has those look who watch the file.
    pub(crate) fn ring(&self) {
        let mut file = self.0;
        if let Err(error) = file.rewind().and_then(|()| file.write_all(TEXT)) {
            tracing::debug!(%error, "nobody was told to look; they do so by themselves");
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // It fails for no lock that is held.
        let _unlocked = self.0.unlock();
    }
}
