//! Takes turns at writing.
//!
//! SQLite does not queue writers: they poll, with growing sleeps. A lock on a file beside it has a queue in the kernel, and a
//! process that dies leaves it. But a process that unlocks it may lock it again before the next one has woken up; so there is
//! a second such file, whose lock a process needs while it waits for the first.
//!
//! Turns are for fairness alone, and nothing depends on them. A process that was stopped in the queue must not stop the others,
//! so they wait for a short time, and then go on by SQLite's own lock.

use std::fs::{File, TryLockError};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SendError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crate::error::CallError;
use crate::file;

const TEXT: &[u8] = b"Turns at writing to the file beside this one.\n";
/// The longest wait for a turn. Transactions take a fraction of a millisecond.
const PATIENCE: Duration = Duration::from_millis(250);

/// A client's place among those who want to write.
#[derive(Debug)]
pub(crate) struct Turns {
    path: PathBuf,
    next: PathBuf,
    turn: PathBuf,
    files: Option<Arc<Files>>,
    /// Of a thread that still waits for a turn which this client has given up. Until it ends, only a free turn is taken.
    late: Weak<Files>,
}

#[derive(Debug)]
struct Files {
    /// Locked by the process that waits for its turn.
    next: File,
    /// Locked by the process whose turn it is.
    turn: File,
}

/// The right to write, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Files>);

impl Turns {
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            next: file::beside(path, "-next"),
            turn: file::beside(path, "-turn"),
            files: None,
            late: Weak::new(),
        }
    }

    /// The file that is [rung](Self::ring).
    pub(crate) fn bell(&self) -> &Path {
        &self.turn
    }

    /// Waits for the turn; `None` if it does not come in time.
    pub(crate) fn take(&mut self) -> Result<Option<Turn>, CallError> {
        let failed = |turns: &Self, error| CallError::file("lock", &turns.turn, error);
        let files = match self.files.take() {
            Some(files) => files,
            None => Arc::new(self.open().map_err(|error| failed(self, error))?),
        };
        let taken = match files.try_take() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(failed(self, error)),
        };
        if !taken && self.late.strong_count() > 0 {
            self.files = Some(files);
            return Ok(None);
        }
        if !taken && !queue(files.clone()).map_err(|error| failed(self, error))? {
            self.late = Arc::downgrade(&files); // which the thread keeps
            return Ok(None);
        }
        self.files = Some(files.clone());
        Ok(Some(Turn(files)))
    }

    /// Wakes the clients that watch the file.
    pub(crate) fn ring(&self) {
        if let Err(error) = self.write() {
            tracing::debug!(%error, "waiters were not woken; they look by themselves");
        }
    }

    /// Whether no file was ever made at this path, not even one that was deleted since.
    pub(crate) fn is_first(&self) -> bool {
        self.turn.metadata().map_or(true, |metadata| metadata.len() == 0)
    }

    /// Notes that a file was made.
    pub(crate) fn mark(&self) -> Result<(), CallError> {
        self.write().map_err(|error| CallError::file("write to", &self.turn, error))
    }

    fn write(&self) -> io::Result<()> {
        let opened;
        let mut file = match &self.files {
            Some(files) => &files.turn,
            None => {
                opened = file::open_beside(&self.path, &self.turn)?;
                &opened
            }
        };
        file.rewind()?;
        file.write_all(TEXT)
    }

    fn open(&self) -> io::Result<Files> {
        let open = |path| file::open_beside(&self.path, path);
        Ok(Files { next: open(&self.next)?, turn: open(&self.turn)? })
    }
}

/// Waits in a thread, because the wait cannot be ended. A turn that comes too late is given back there. A process that may start
/// no more threads goes without.
fn queue(files: Arc<Files>) -> io::Result<bool> {
    let (sender, receiver) = sync_channel(0);
    let wait = move || {
        let taken = files.take();
        if let Err(SendError(Ok(()))) = sender.send(taken) {
            drop(Turn(files));
        }
    };
    if thread::Builder::new().name("rlock-sqlite-turn".into()).spawn(wait).is_err() {
        return Ok(false);
    }
    receiver.recv_timeout(PATIENCE).map_or(Ok(false), |taken| taken.map(|()| true))
}

impl Files {
    /// Takes the turn if it is free and no process waits for it.
    fn try_take(&self) -> Result<(), TryLockError> {
        self.next.try_lock()?;
        let taken = self.turn.try_lock();
        let unlocked = self.next.unlock();
        taken?;
        unlocked.map_err(TryLockError::Error)
    }

    fn take(&self) -> io::Result<()> {
        self.next.lock()?;
        let taken = self.turn.lock();
        let unlocked = self.next.unlock();
        taken.and(unlocked)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // It fails for no lock that is held.
        let _unlocked = self.0.turn.unlock();
    }
}
