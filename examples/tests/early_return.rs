//! A program that returns from `main` while it holds a lock leaves the lock free, on every store.

use std::process::Command;

use rlock::SimpleLock;
use tokio::runtime::Runtime;

/// Often enough that a release which races with the end of the process loses once.
const ROUNDS: usize = 12;

fn run_leaves_the_lock_free(url: &str, argument: Option<&str>) {
    let runtime = Runtime::new().unwrap();
    let client = runtime.block_on(rlock::connect(url)).unwrap();
    let lock = SimpleLock::new("early-return", &client).unwrap();
    for round in 1..=ROUNDS {
        let mut program = Command::new(env!("CARGO_BIN_EXE_early_return"));
        let output = program.args(argument).env("RLOCK_URL", url).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(out.starts_with("held with token "), "round {round}: {out}{err}");
        assert_eq!(output.status.success(), argument.is_none(), "round {round}: {out}{err}");
        let guard = runtime.block_on(lock.try_lock()).unwrap();
        let guard = guard.unwrap_or_else(|| panic!("round {round} of {ROUNDS}: the lock is still held"));
        runtime.block_on(guard.unlock()).unwrap();
    }
}

/// The two ways out of `main`, on the store whose URL `$url` is.
macro_rules! on_store {
    ($url:expr) => {
        #[test]
        fn end_of_main_releases() {
            let (_store, url) = $url;
            super::run_leaves_the_lock_free(&url, None);
        }

        #[test]
        fn question_mark_in_main_releases() {
            let (_store, url) = $url;
            super::run_leaves_the_lock_free(&url, Some("fail"));
        }
    };
}

mod sqlite {
    on_store! {{
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("locks.db").display());
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
