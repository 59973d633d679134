//! Registers, which stand for the data that a lock protects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rlock_core::ResourceName;

use super::entry::{Op, What};
use super::recorder::Recorder;

/// Numbers that locks protect, one for each resource, initially 0. Fencing tokens guard them: a token smaller than the
/// greatest one seen is refused.
///
/// A register knows nothing of the locks. It does not compare its value with the value that a writer expects to
/// replace: the [`History`](super::History) finds lost updates. It notes its own events, in their order. Clones share
/// the same registers.
#[derive(Debug, Clone)]
pub struct Register {
    recorder: Recorder,
    kept: Arc<Mutex<HashMap<ResourceName, Kept>>>,
}

#[derive(Debug, Default)]
struct Kept {
    greatest: u64,
    value: u64,
}

impl Register {
    /// Makes registers that note their events in `recorder`.
    pub fn new(recorder: Recorder) -> Self {
        Self { recorder, kept: Arc::default() }
    }

    /// Shows a token, which shuts out all smaller ones, and returns the value.
    ///
    /// # Errors
    ///
    /// [`Stale`] if a greater token has been seen.
    pub fn open(&self, op: Op, resource: &ResourceName, token: u64) -> Result<u64, Stale> {
        self.with(resource, |kept| {
            let resource = resource.clone();
            let seen = kept.see(token);
            self.recorder.note(match seen {
                Ok(()) => What::Opened { op, resource, token, value: kept.value },
                Err(_) => What::OpenRefused { op, resource, token },
            });
            seen.map(|()| kept.value)
        })
    }

    /// Writes `value` over the value `base` that the writer expects.
    ///
    /// # Errors
    ///
    /// [`Stale`] if a greater token has been seen; then nothing was written.
    pub fn write(&self, op: Op, resource: &ResourceName, token: u64, base: u64, value: u64) -> Result<(), Stale> {
        self.with(resource, |kept| {
            let resource = resource.clone();
            let seen = kept.see(token);
            self.recorder.note(match seen {
                Ok(()) => What::Wrote { op, resource, token, base, value },
                Err(_) => What::WriteRefused { op, resource, token },
            });
            seen.map(|()| kept.value = value)
        })
    }

    /// Runs `act` under the mutex, including its notes, so that the notes have the order of the events.
    fn with<T>(&self, resource: &ResourceName, act: impl FnOnce(&mut Kept) -> T) -> T {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        act(kept.entry(resource.clone()).or_default())
    }
}

impl Kept {
    fn see(&mut self, token: u64) -> Result<(), Stale> {
        if token < self.greatest {
            return Err(Stale { token, greatest: self.greatest });
        }
        self.greatest = token;
        Ok(())
    }
}

/// A token was refused, because the register has seen a greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("token {token} is refused: {greatest} has been seen")]
pub struct Stale {
    /// The token shown.
    pub token: u64,
    /// The greatest one seen.
    pub greatest: u64,
}
