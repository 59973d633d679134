//! The file of SQLite, as a server that fails.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, fs};

use rlock_testkit::async_trait;
use rlock_testkit::faults::{Control, Data};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

/// A frozen process may be writing for as long as it is frozen.
const WRITES_WITHIN: Duration = Duration::from_secs(60);

/// A file of SQLite. It stands still while another connection writes to it, and loses its data when it is deleted.
pub(crate) struct File {
    path: PathBuf,
    writer: Mutex<Option<Connection>>,
    _folder: TempDir,
}

impl File {
    pub(crate) fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no folder for the file: {error}"))?;
        Ok(Self { path: folder.path().join("locks.db"), writer: Mutex::default(), _folder: folder })
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    fn let_write(&self, writer: Option<Connection>) {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = writer;
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl Control for File {
    async fn pause(&self) {
        let path = self.path.clone();
        // The task of the caller also wakes the frozen process that this may wait for.
        let writer = spawn_blocking(move || begin_to_write(&path)).await.expect("it does not panic");
        self.let_write(Some(writer.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))));
    }

    async fn resume(&self) {
        self.let_write(None);
    }

    async fn kill(&self) {
        self.pause().await;
    }

    async fn restart(&self, data: Data) {
        self.resume().await;
        if data == Data::Lost {
            for suffix in ["", "-wal", "-shm"] {
                let _not_made_again_yet = fs::remove_file(format!("{}{suffix}", self.path.display()));
            }
        }
    }
}

fn begin_to_write(path: &Path) -> rusqlite::Result<Connection> {
    let file = Connection::open(path)?;
    file.busy_timeout(WRITES_WITHIN)?;
    file.execute_batch("BEGIN IMMEDIATE")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Runtime;

    use super::*;

    #[test]
    fn file_is_locked_and_deleted() {
        Runtime::new().unwrap().block_on(async {
            let file = File::new().unwrap();
            let other = Connection::open(&file.path).unwrap();
            other.busy_timeout(Duration::ZERO).unwrap();
            let write = || other.execute_batch("BEGIN IMMEDIATE; COMMIT");
            write().unwrap();
            file.pause().await;
            assert!(write().is_err());
            file.resume().await;
            write().unwrap();
            file.kill().await;
            file.restart(Data::Lost).await;
            assert!(!file.path.exists());
        });
    }
}
