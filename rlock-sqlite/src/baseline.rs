//! Measures SQLite without locks: the fewest statements that could do their work, on a thread like that of a client.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use rlock_core::{BackendError, Baseline, LeaseId, Namespace};
use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use crate::bell::Bell;
use crate::connect;
use crate::error::{CallError, Kind};
use crate::file;
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

/// The cost of SQLite without locks, in a file of its own beside the one with the locks.
pub struct SqliteBaseline {
    store: Arc<str>,
    timeout: Duration,
    namespace: Namespace,
    /// The file with the locks.
    locks: PathBuf,
    files: Files,
    writer: Connected,
    waiter: Mutex<Connected>,
}

/// A connection on a thread.
struct Connected(mpsc::Sender<Job>);

type Job = Box<dyn FnOnce(&Connection, Option<&Bell>) + Send>;

impl Connected {
    fn start(conn: Connection, bell: Option<Bell>) -> Result<Self, CallError> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let work = move || {
            for job in jobs {
                job(&conn, bell.as_ref());
            }
        };
        let failed = |error| CallError::new(Kind::Undone, format!("no thread: {error}"));
        thread::Builder::new().name("rlock-sqlite-bare".into()).spawn(work).map_err(failed)?;
        Ok(Self(sender))
    }

    /// Sends a request, whose answer the future waits for.
    fn send<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection, Option<&Bell>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = Result<T, CallError>> + Send>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.send(Box::new(move |conn, bell| {
            let _dropped = reply.send(job(conn, bell));
        }));
        Box::pin(async move {
            let ended = |_| CallError::new(Kind::Uncertain, "the thread that works on the file has ended");
            sent.map_err(|_| CallError::new(Kind::Undone, "the thread that works on the file has ended"))?;
            answer.await.map_err(ended)?.map_err(CallError::committing)
        })
    }
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
        Self::open(&config, store.clone()).map_err(|error| error.into_connect_error(&store))
    }

    fn open(config: &SqliteConfig, store: Arc<str>) -> Result<Self, CallError> {
        let locks = file::prepare(config)?;
        let file = file::beside(&locks, &format!("-bench-{}", LeaseId::random().to_hex()));
        let files = Files { bell: file::beside(&file, "-bell"), file };
        for path in [&files.file, &files.bell] {
            file::open_beside(&locks, path).map_err(|error| CallError::file("create", path, error))?;
        }
        let bell = Bell::at(&files.bell);
        let writer = connect::connect(&files.file, config.timeout / 2)?;
        let table = writer.execute_batch("CREATE TABLE bare (name TEXT PRIMARY KEY, value TEXT NOT NULL)");
        table.map_err(CallError::undone)?;
        let waiter = connect::connect(&files.file, config.timeout / 2)?;
        let (timeout, namespace) = (config.timeout, config.namespace.clone());
        let (writer, waiter) = (Connected::start(writer, None)?, Mutex::new(Connected::start(waiter, bell)?));
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
        let read = |conn: &Connection, _: Option<&Bell>| {
            conn.prepare_cached(READ)?.query_row([""], |_| Ok(())).optional().map(drop)
        };
        self.call("read", self.writer.send(read)).await
    }

    async fn pair(&self, name: &str) -> Result<(), BackendError> {
        let (inserted, deleted) = (name.to_owned(), name.to_owned());
        let insert = move |conn: &Connection, _: Option<&Bell>| {
            conn.prepare_cached(INSERT)?.execute((inserted, "x".repeat(LENGTH))).map(drop)
        };
        self.call("insert", self.writer.send(insert)).await?;
        let delete =
            move |conn: &Connection, _: Option<&Bell>| conn.prepare_cached(DELETE)?.execute([deleted]).map(drop);
        self.call("delete", self.writer.send(delete)).await
    }

    async fn write_and_push(&self) -> Result<(), BackendError> {
        let waiter = self.waiter.lock().await;
        let limit = self.timeout;
        let read = waiter.send(move |conn, bell| {
            match bell {
                Some(bell) => bell.wait(limit),
                None => thread::sleep(LOOK_EVERY),
            }
            conn.prepare_cached(READ)?.query_row([PUSH], |_| Ok(()))
        });
        let path = self.files.bell.clone();
        let write = self.writer.send(move |conn, _| {
            conn.prepare_cached(REPLACE)?.execute((PUSH, "x".repeat(LENGTH)))?;
            Ok(ring(&path))
        });
        let written_and_read = async {
            write.await?.map_err(|error| CallError::file("write to", &self.files.bell, error))?;
            read.await
        };
        self.call("write", written_and_read).await
    }

    async fn counters(&self) -> Result<Vec<(&'static str, u64)>, BackendError> {
        Ok(Vec::new())
    }

    async fn size(&self) -> Result<Option<u64>, BackendError> {
        let (locks, limit) = (self.locks.clone(), self.timeout);
        let size = self.writer.send(move |_, _| Ok(size_of(&locks, limit)));
        self.call("measure", async { size.await? }).await.map(Some)
    }

    async fn clean_up(&self) -> Result<(), BackendError> {
        self.files.delete();
        let (locks, namespace, limit) = (self.locks.clone(), self.namespace.clone(), self.timeout);
        // In a thread that can wait for other clients.
        let remove = self.writer.send(move |_, _| Ok(forget(&locks, &namespace, limit)));
        self.call("clean up", async { remove.await? }).await
    }
}

/// The bytes of the pages in use, of the file with the locks.
fn size_of(locks: &Path, limit: Duration) -> Result<u64, CallError> {
    const SIZE: &str = "SELECT (p.page_count - f.freelist_count) * s.page_size \
                        FROM pragma_page_count AS p, pragma_freelist_count AS f, pragma_page_size AS s";
    let conn = connect::connect(locks, limit / 2)?;
    let size: i64 = conn.query_row(SIZE, [], |row| row.get(0)).map_err(CallError::undone)?;
    Ok(u64::try_from(size).unwrap_or_default())
}

/// Deletes all leases of a namespace, if there is a file with locks.
fn forget(locks: &Path, namespace: &Namespace, limit: Duration) -> Result<(), CallError> {
    const LEASES: &str = "DELETE FROM leases WHERE crowd IN (SELECT crowd FROM resources WHERE namespace = ?)";
    const RESOURCES: &str = "DELETE FROM resources WHERE namespace = ?";
    const IS_MADE: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'resources')";
    let forget = |conn: &mut Connection| -> rusqlite::Result<()> {
        let transaction = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if transaction.query_row(IS_MADE, [], |row| row.get(0))? {
            transaction.execute(LEASES, [namespace.as_str()])?;
            transaction.execute(RESOURCES, [namespace.as_str()])?;
        }
        transaction.commit()
    };
    forget(&mut connect::connect(locks, limit / 2)?).map_err(CallError::committing)
}

fn ring(path: &Path) -> std::io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(b"ring\n")
}

/// The file and those beside it, which go with this.
#[derive(Debug)]
struct Files {
    file: PathBuf,
    bell: PathBuf,
}

impl Files {
    fn delete(&self) {
        let beside = ["-wal", "-shm"].map(|suffix| file::beside(&self.file, suffix));
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
