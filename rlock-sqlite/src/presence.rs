//! Shows whether other clients have the file open: each of them shares a lock on a file beside it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{CallError, Kind};
use crate::file;

const PAUSE: Duration = Duration::from_millis(5);

/// The sign that a client has the file open, until it is dropped. The kernel takes it down when the process ends.
#[derive(Debug)]
pub(crate) struct Presence(File);

impl Presence {
    /// Shares the lock. A client that is [alone](Self::alone) keeps it for a moment at most.
    pub(crate) fn show(path: &Path, limit: Duration) -> Result<Self, CallError> {
        let beside = file::beside(path, "-open");
        let failed = |error| CallError::file("lock", &beside, error);
        let presence = Self(file::open_beside(path, &beside).map_err(failed)?);
        presence.share(limit).map_err(failed)?;
        Ok(presence)
    }

    /// Has `act` done while no other client has the file open, or returns `None` if one has.
    pub(crate) fn alone<T>(
        &self,
        limit: Duration,
        act: impl FnOnce() -> Result<T, CallError>,
    ) -> Result<Option<T>, CallError> {
        let failed = |error: io::Error| CallError::new(Kind::Undone, format!("cannot lock the file …-open: {error}"));
        self.0.unlock().map_err(failed)?;
        let done = match self.0.try_lock() {
            Ok(()) => Some(act()),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        };
        self.share(limit).map_err(failed)?;
        done.transpose()
    }

    fn share(&self, limit: Duration) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            match self.0.try_lock_shared() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if begun.elapsed() < limit => sleep(PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
