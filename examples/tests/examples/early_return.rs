//! A program that returns from `main` while it holds a lock leaves the lock free, on every store.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rlock::SimpleLock;
use rlock_testkit::faults::Control;
use rusqlite::Connection;
use tokio::runtime::Runtime;

/// The time for which the store does not answer. A program that does not wait for the store ends within it.
const SILENCE: Duration = Duration::from_millis(500);

/// A store that can stop answering.
trait Silence {
    /// The guard of a silence. The store answers again once it is dropped.
    type Silent;

    fn silence(&self) -> Self::Silent;
    fn end(&self, silent: Self::Silent);
}

impl<S: Control> Silence for S {
    type Silent = ();

    fn silence(&self) {
        Runtime::new().unwrap().block_on(self.pause());
    }

    fn end(&self, (): ()) {
        Runtime::new().unwrap().block_on(self.resume());
    }
}

/// A folder with a file of locks.
struct Folder(tempfile::TempDir);

/// Holds a write transaction on the file, so that no other process can write.
impl Silence for Folder {
    type Silent = Connection;

    fn silence(&self) -> Connection {
        let writer = Connection::open(self.0.path().join("locks.db")).unwrap();
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        writer
    }

    fn end(&self, writer: Connection) {
        writer.execute_batch("ROLLBACK").unwrap();
    }
}

fn run_leaves_the_lock_free(store: &impl Silence, url: &str, argument: Option<&str>) {
    let runtime = Runtime::new().unwrap();
    let client = runtime.block_on(rlock::connect(url)).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_early_return"));
    let program = program.args(argument).env("RLOCK_URL", url);
    let mut program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let mut line = || lines.next().expect("it goes on").unwrap();
    let held = line();
    assert!(held.starts_with("held with token "), "{held}");

    let silent = store.silence();
    drop(program.stdin.take());
    assert_eq!(line(), "the work has ended");
    sleep(SILENCE);
    let ended = program.try_wait().unwrap();
    store.end(silent);
    assert_eq!(ended, None, "it did not wait for the release");

    let status = program.wait().unwrap();
    assert_eq!(status.success(), argument.is_none(), "{status}");
    let lock = SimpleLock::new("early-return", &client).unwrap();
    let guard = runtime.block_on(lock.try_lock()).unwrap().expect("the lock is free");
    runtime.block_on(guard.unlock()).unwrap();
}

/// Tests the two ways out of `main`, on the store at `$url`.
macro_rules! on_store {
    ($url:expr) => {
        #[test]
        fn end_of_main_releases() {
            let (store, url) = $url;
            super::run_leaves_the_lock_free(&store, &url, None);
        }

        #[test]
        fn question_mark_in_main_releases() {
            let (store, url) = $url;
            super::run_leaves_the_lock_free(&store, &url, Some("fail"));
        }
    };
}

mod sqlite {
    on_store! {{
        let folder = super::Folder(tempfile::tempdir().unwrap());
        let url = format!("sqlite:{}", folder.0.path().join("locks.db").display());
        (folder, url)
    }}
}

mod redis {
    on_store! {{
        let server = rlock_testkit::servers::Redis::start();
        let url = format!("{}?restart_grace=0s", server.url());
        (server, url)
    }}
}

#[cfg(feature = "etcd")]
mod etcd {
    on_store! {{
        let server = rlock_testkit::servers::Etcd::start();
        let url = format!("{}?restart_grace=0s", server.url());
        (server, url)
    }}
}

#[cfg(feature = "postgres")]
mod postgres {
    use rlock::postgres::{PostgresBackend, PostgresConfig};

    on_store! {{
        let server = rlock_testkit::servers::Postgres::start();
        let url = format!("{}?restart_grace=0s", server.url());
        let config = PostgresConfig::from_url(&url).unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(PostgresBackend::ensure_schema(&config)).unwrap();
        (server, url)
    }}
}
