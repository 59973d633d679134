//! Measures SQLite without locks: the fewest statements that could do their work, over the same client library.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rlock_core::{BackendError, Baseline, LeaseId, Namespace};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Executor as _, query};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::bell::Bell;
use crate::error::{CallError, Kind};
use crate::place;
use crate::{ConnectError, SqliteConfig};

/// The length of what a lock writes.
const LENGTH: usize = 100;
/// The interval of a waiter's reads where the system does not report changes to a file.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const INSERT: &str = "INSERT INTO bare VALUES (?, ?)";
const DELETE: &str = "DELETE FROM bare WHERE name = ?";
const REPLACE: &str = "INSERT OR REPLACE INTO bare VALUES (?, ?)";
const READ: &str = "SELECT value FROM bare WHERE name = ?";
const PUSH: &str = "push";
const FORGET: &str = "DELETE FROM leases WHERE namespace = ?";

/// The cost of SQLite without locks, in a file of its own beside the one with the locks.
pub struct SqliteBaseline {
    store: Arc<str>,
    timeout: Duration,
    namespace: Namespace,
    /// The file with the locks.
    locks: SqliteConnectOptions,
    files: Files,
    writer: Mutex<SqliteConnection>,
    waiter: Mutex<(SqliteConnection, Option<Bell>)>,
}

impl SqliteBaseline {
    /// Makes a file beside the one that `config` names, and opens it twice. Dropping this deletes it.
    ///
    /// # Errors
    ///
    /// As for [`SqliteBackend::connect`](crate::SqliteBackend::connect).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future deletes the file.
    pub async fn connect(config: SqliteConfig) -> Result<Self, ConnectError> {
        let store = Arc::<str>::from(config.address());
        let opened = Self::open(&config, store.clone()).await;
        opened.map_err(|error| error.into_connect_error(&store))
    }

    async fn open(config: &SqliteConfig, store: Arc<str>) -> Result<Self, CallError> {
        let file = place::beside(&config.path, &format!("-bench-{}", LeaseId::random().to_hex()));
        let files = Files { bell: place::beside(&file, "-bell"), file };
        place::prepare(&files.file)?;
        place::prepare(&files.bell)?;
        let bell = Bell::at(&files.bell);
        let options = SqliteConnectOptions::new()
            .filename(&files.file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(config.timeout / 2)
            .disable_statement_logging();
        let mut writer = options.connect().await.map_err(CallError::undone)?;
        let table = writer.execute("CREATE TABLE bare (name TEXT PRIMARY KEY, value TEXT NOT NULL)").await;
        table.map_err(CallError::undone)?;
        let waiter = options.connect().await.map_err(CallError::undone)?;
        let (writer, waiter) = (Mutex::new(writer), Mutex::new((waiter, bell)));
        let locks = options.filename(&config.path).create_if_missing(false);
        let (timeout, namespace) = (config.timeout, config.namespace.clone());
        Ok(Self { store, timeout, namespace, locks, files, writer, waiter })
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, CallError>> + Send,
    ) -> Result<T, BackendError> {
        let late = || CallError::new(Kind::Uncertain, format!("not done within {:?}", self.timeout));
        let done = timeout(self.timeout, request).await.unwrap_or_else(|_elapsed| Err(late()));
        done.map_err(|error| error.into_backend_error(operation, &self.store))
    }
}

#[async_trait]
impl Baseline for SqliteBaseline {
    async fn round_trip(&self) -> Result<(), BackendError> {
        let read = async {
            let mut conn = self.writer.lock().await;
            query(READ).bind("").fetch_optional(&mut *conn).await.map(drop).map_err(CallError::undone)
        };
        self.call("read", read).await
    }

    async fn pair(&self, name: &str) -> Result<(), BackendError> {
        let insert = async {
            let insert = query(INSERT).bind(name).bind("x".repeat(LENGTH));
            insert.execute(&mut *self.writer.lock().await).await.map(drop).map_err(CallError::committing)
        };
        self.call("insert", insert).await?;
        let delete = async {
            let delete = query(DELETE).bind(name);
            delete.execute(&mut *self.writer.lock().await).await.map(drop).map_err(CallError::committing)
        };
        self.call("delete", delete).await
    }

    async fn write_and_push(&self) -> Result<(), BackendError> {
        let written_and_read = async {
            let (conn, bell) = &mut *self.waiter.lock().await;
            let replace = query(REPLACE).bind(PUSH).bind("x".repeat(LENGTH));
            replace.execute(&mut *self.writer.lock().await).await.map_err(CallError::committing)?;
            self.files.ring()?;
            match bell {
                Some(bell) => bell.rung().await,
                None => sleep(LOOK_EVERY).await,
            }
            query(READ).bind(PUSH).fetch_one(conn).await.map(drop).map_err(CallError::undone)
        };
        self.call("write", written_and_read).await
    }

    async fn counters(&self) -> Result<Vec<(&'static str, u64)>, BackendError> {
        Ok(Vec::new())
    }

    async fn clean_up(&self) -> Result<(), BackendError> {
        self.files.delete();
        let remove = async {
            let mut locks = self.locks.connect().await.map_err(CallError::undone)?;
            let delete = query(FORGET).bind(self.namespace.as_str());
            delete.execute(&mut locks).await.map(drop).map_err(CallError::committing)
        };
        self.call("clean up", remove).await
    }
}

/// The file and those beside it, which go with this.
#[derive(Debug)]
struct Files {
    file: PathBuf,
    bell: PathBuf,
}

impl Files {
    fn ring(&self) -> Result<(), CallError> {
        let path = &self.bell;
        let rung = fs::OpenOptions::new().write(true).open(path).and_then(|mut bell| bell.write_all(b"ring\n"));
        rung.map_err(|error| CallError::file("write to", path, error))
    }

    fn delete(&self) {
        let beside = ["-wal", "-shm"].map(|suffix| place::beside(&self.file, suffix));
        for path in beside.iter().chain([&self.bell, &self.file]) {
            let _deleted_before = fs::remove_file(path);
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.delete();
    }
}

impl fmt::Debug for SqliteBaseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBaseline").field("store", &self.store).finish_non_exhaustive()
    }
}
