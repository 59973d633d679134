//! rlock-sqlite passes the suite.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rlock_core::{Backend, Namespace};
use rlock_sqlite::{SqliteBackend, SqliteConfig};
use rlock_testkit::faults::{Control, Data};
use rlock_testkit::{Controlled, Harness, Shared, async_trait};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

rlock_testkit::conformance!(sqlite: SqliteHarness, without(network));

struct SqliteHarness {
    file: Stoppable,
    /// Of the test that made it.
    _folder: Option<TempDir>,
}

#[async_trait]
impl Harness for SqliteHarness {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("the system has a place for temporary files");
        Self { file: Stoppable::at(folder.path().join("locks.db")), _folder: Some(folder) }
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        let config = SqliteConfig::at(&self.file.path).expect("a good path").namespace(namespace.clone());
        Arc::new(SqliteBackend::connect(config).await.expect("the file can be opened"))
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        // The row of a free resource keeps its tokens increasing, and is removed a minute after its last use.
        const LEFT: &str = "SELECT name FROM resources WHERE namespace = ? AND (id IS NOT NULL OR crowd > 0 OR taken > 0) \
             UNION ALL SELECT 'a lease' FROM leases UNION ALL SELECT 'a notice' FROM mail";
        let file = Connection::open(&self.file.path).expect("it is there");
        let mut left = file.prepare(LEFT).expect("it has these tables");
        let rows = left.query_map([namespace.as_str()], |row| row.get(0)).expect("it can be read");
        rows.map(|row| row.expect("it can be read")).collect()
    }
}

#[async_trait]
impl Shared for SqliteHarness {
    fn address(&self) -> String {
        self.file.path.display().to_string()
    }

    async fn attach(address: &str) -> Self {
        Self { file: Stoppable::at(address.into()), _folder: None }
    }
}

#[async_trait]
impl Controlled for SqliteHarness {
    async fn start_durable() -> Self {
        Self::start().await
    }

    fn server(&self) -> &dyn Control {
        &self.file
    }
}

/// A frozen process may be writing for as long as it is frozen.
const WRITES_WITHIN: Duration = Duration::from_secs(60);

/// A file as a server: it stands still while another connection writes to it, and its data are lost when it is deleted.
struct Stoppable {
    path: PathBuf,
    writer: Mutex<Option<Connection>>,
}

impl Stoppable {
    fn at(path: PathBuf) -> Self {
        Self { path, writer: Mutex::default() }
    }
}

#[async_trait]
impl Control for Stoppable {
    async fn pause(&self) {
        if self.writer.lock().expect("no test panics with it").is_some() {
            return;
        }
        let path = self.path.clone();
        // The task of the caller also wakes the frozen process that may be writing.
        let begin = spawn_blocking(move || {
            let file = Connection::open(&path).expect("it is there");
            file.busy_timeout(WRITES_WITHIN).expect("it takes a time limit");
            file.execute_batch("BEGIN IMMEDIATE").expect("others write for a moment");
            file
        });
        let file = begin.await.expect("the file can be written to");
        *self.writer.lock().expect("no test panics with it") = Some(file);
    }

    async fn resume(&self) {
        *self.writer.lock().expect("no test panics with it") = None;
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
