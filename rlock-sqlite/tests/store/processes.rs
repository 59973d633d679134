//! Locks in a file, held by processes that are killed and frozen.

use std::time::Duration;

use rlock_core::Client;
use rlock_sqlite::{SqliteBackend, SqliteConfig};
use rlock_testkit::contest::{Arena, Mishap, Workload, run_contender};
use rlock_testkit::process::{Helper, block_on};
use rlock_testkit::this_test;

/// No two hold a lock, tokens grow, no update is lost, every loss is signalled in time, no waiter is forgotten.
#[test]
fn histories_are_right_while_processes_die_and_freeze() {
    if let Some(helper) = Helper::current() {
        return block_on(run_contender(helper, client));
    }
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let workload = Workload::mixed(Duration::from_secs(2));
        let seed = rand::random();
        println!("seed {seed}");
        let path = folder.path().join("locks.db");
        let arena = Arena::new(workload, this_test!(), path.to_str().unwrap(), None, 6, seed).await;
        let mishaps = [Mishap::ProcessKilled, Mishap::ProcessKilled, Mishap::ProcessFrozen];
        let outcome = arena.run(Duration::from_secs(30), &mishaps, Duration::from_millis(250)).await;
        println!("{:?}\n{}", outcome.mishaps, outcome.verdict.counts);
        let counts = outcome.verdict.into_result().unwrap_or_else(|violation| panic!("{violation}"));
        assert!(counts.acquisitions > 100, "{counts}");
    });
}

async fn client(path: &str) -> Client {
    let config = SqliteConfig::at(path).unwrap();
    Client::builder().connect(SqliteBackend::connect(config)).await.unwrap()
}
