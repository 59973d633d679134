//! Taking turns at writing.
//!
//! SQLite lets whoever writes next be found out by chance: the others sleep for longer and longer, and look again. A lock
//! on a file beside it has a queue in the kernel instead, and whoever dies in it is out of it. But who unlocks it may lock
//! it again before the next one has woken up; so there is a second such file, of which one has to have the lock while one
//! waits for the first.

use std::fs::{File, TryLockError};
use std::future::pending;
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
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
    paths: Arc<[PathBuf; 2]>,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed,
    Open(Files),
    /// A thread stands in the queue.
    Queued(oneshot::Receiver<io::Result<Files>>),
}

#[derive(Debug)]
struct Files {
    /// Locked by whoever waits for his turn.
    next: File,
    /// Locked by whoever has it.
    turn: File,
}

impl Files {
    fn open([next, turn]: &[PathBuf; 2]) -> io::Result<Self> {
        let mut options = place::for_user_alone_file();
        options.read(true).write(true).create(true).truncate(false);
        Ok(Self { next: options.open(next)?, turn: options.open(turn)? })
    }

    /// Takes the turn if nobody has it or waits for it.
    fn try_take(&self) -> Result<(), TryLockError> {
        self.next.try_lock()?;
        let taken = self.turn.try_lock();
        let unlocked = self.next.unlock();
        taken?;
        unlocked.map_err(TryLockError::Error)
    }

    fn take(&self) -> io::Result<()> {
        self.next.lock()?;
        self.turn.lock()?;
        self.next.unlock()
    }
}

/// The right to write, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a File);

impl Turns {
    pub(crate) fn at(path: &Path) -> Self {
        let paths = ["-next", "-turn"].map(|suffix| place::beside(path, suffix));
        Self { paths: Arc::new(paths), state: State::Closed }
    }

    /// The file that is [rung](Self::ring).
    pub(crate) fn path(&self) -> &Path {
        &self.paths[1]
    }

    /// Waits for the turn for so long; `None` if that was not enough. What has queued for it stays in its place after that, for the next time, or until the
    /// turn is [declined](Self::decline).
    pub(crate) async fn take(&mut self, limit: Duration) -> Result<Option<Turn<'_>>, CallError> {
        let paths = self.paths.clone();
        let failed = |error| CallError::file("lock", &paths[1], error);
        if let State::Closed = self.state {
            self.state = State::Open(Files::open(&paths).map_err(failed)?);
        }
        if let State::Open(files) = &self.state {
            match files.try_take() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => self.queue()?,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        if let State::Queued(queued) = &mut self.state {
            let Ok(taken) = timeout(limit, queued).await else { return Ok(None) };
            self.state = State::Closed;
            let taken = taken.map_err(|_| failed(io::Error::other("the thread that waits for it has ended")))?;
            self.state = State::Open(taken.map_err(failed)?);
        }
        match &self.state {
            State::Open(files) => Ok(Some(Turn(&files.turn))),
            State::Closed | State::Queued(_) => unreachable!("it has been opened and locked"),
        }
    }

    /// That the turn did not come.
    pub(crate) fn late(&self, limit: Duration) -> CallError {
        let reason = format!(
            "others have been writing for longer than {limit:?}: a process that was stopped in the middle of it holds up \
             all; `lsof {}` shows who has the file open",
            self.path().display()
        );
        CallError::new(Kind::Undone, reason)
    }

    /// Has those look who watch the file.
    pub(crate) fn ring(&self) {
        let rung = match &self.state {
            State::Open(files) => ring(&files.turn),
            // It is a thread that has it open, which waits.
            State::Closed | State::Queued(_) => {
                File::options().write(true).open(self.path()).and_then(|file| ring(&file))
            }
        };
        if let Err(error) = rung {
            tracing::debug!(%error, "nobody was told to look; they do so by themselves");
        }
    }

    /// Gives back a turn that comes when nobody waits for it any more. While there is none to come, this does not end.
    ///
    /// # Cancel safety
    ///
    /// The place in the queue is kept.
    pub(crate) async fn decline(&mut self) {
        let State::Queued(queued) = &mut self.state else { return pending().await };
        let taken = queued.await;
        self.state = match taken {
            Ok(Ok(files)) => {
                drop(Turn(&files.turn));
                State::Open(files)
            }
            _ => State::Closed,
        };
    }

    /// Leaves the files to a thread that stands in the queue. Not to one of the runtime's, which would wait for it to end.
    fn queue(&mut self) -> Result<(), CallError> {
        let State::Open(files) = std::mem::replace(&mut self.state, State::Closed) else { return Ok(()) };
        let (sender, receiver) = oneshot::channel();
        let wait = move || {
            let taken = files.take().map(|()| files);
            let _nobody_waits_any_more = sender.send(taken);
        };
        let thread = std::thread::Builder::new().name("rlock-sqlite-turn".into()).spawn(wait);
        thread.map_err(|error| CallError::file("wait for", &self.paths[1], error))?;
        self.state = State::Queued(receiver);
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
}

fn ring(mut file: &File) -> io::Result<()> {
    file.rewind()?;
    file.write_all(TEXT)
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // It fails for no lock that is held.
        let _unlocked = self.0.unlock();
    }
}
