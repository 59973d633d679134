//! A file of SQLite, as a server that fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::faults::{Control, Data};

/// A frozen process may be writing for as long as it is frozen.
const WRITES_WITHIN: Duration = Duration::from_secs(60);

/// A file of SQLite, as a server. It stands still while another connection writes to it, and loses its data when it is
/// deleted.
///
/// No process serves a file, so [`kill`](Control::kill) only [pauses](Control::pause) it.
#[derive(Debug)]
pub struct SqliteFile {
    path: PathBuf,
    /// The connection that keeps all others from writing.
    writer: Mutex<Option<Connection>>,
    _folder: Option<TempDir>,
}

impl SqliteFile {
    /// A file that does not exist yet, in a temporary folder that is removed with this value.
    ///
    /// # Panics
    ///
    /// Panics if the system has no place for temporary files.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder for the file: {error}"));
        Self { path: folder.path().join("locks.db"), writer: Mutex::default(), _folder: Some(folder) }
    }

    /// The same, by the name that servers have for it: a file keeps all confirmed writes when a process is killed.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_durable() -> Self {
        Self::start()
    }

    /// The file at `path`, which outlives this value.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), writer: Mutex::default(), _folder: None }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The URL of the file: `sqlite:PATH`.
    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    fn writer(&self) -> MutexGuard<'_, Option<Connection>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Control for SqliteFile {
    async fn pause(&self) {
        if self.writer().is_some() {
            return;
        }
        let path = self.path.clone();
        // The task of the caller also wakes the frozen process that this may wait for.
        let writer = spawn_blocking(move || begin_to_write(&path)).await.expect("it does not panic");
        let writer = writer.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        *self.writer() = Some(writer);
    }

    async fn resume(&self) {
        *self.writer() = None;
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
