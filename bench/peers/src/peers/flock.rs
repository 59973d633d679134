//! The system call `flock`, through the standard library.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::library::Library;
use crate::target::Target;

/// The folder with a file for each name.
#[derive(Clone)]
pub struct Flock(Arc<Path>);

impl Library for Flock {
    const NAME: &'static str = "flock";
    const NOTE: &'static str = "\
        A file for each name in a temporary folder, opened for each lock. It waits on a blocking thread. It \
        writes nothing to a disk and is the floor for a lock between processes of one host: no queue, \
        fencing token, TTL or list of holders.";
    type Held = File;

    async fn connect(target: &Target) -> anyhow::Result<Self> {
        Ok(Self(target.folder.path().into()))
    }

    async fn acquire(&self, name: &str) -> anyhow::Result<File> {
        let path = self.0.join(name.replace('/', "-"));
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Ok(spawn_blocking(move || file.lock().map(|()| file)).await??),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    async fn release(&self, held: File) -> anyhow::Result<()> {
        Ok(held.unlock()?)
    }

    async fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}
