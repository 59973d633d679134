//! Locks of processes whose sessions are ended, on a server that fails.

use std::cell::Cell;
use std::time::Duration;

use rlock_core::Client;
use rlock_postgres::{ConnectError, PostgresBackend, PostgresConfig};
use rlock_testkit::contest::{Arena, Mishap, Workload, run_contender};
use rlock_testkit::process::{Helper, block_on};
use rlock_testkit::this_test;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::time::timeout;

use crate::support::Server;

/// Processes are killed, frozen and cut off while the server ends some of their sessions, stalls, is killed and
/// restarted. No two hold a lock, tokens grow, no update is lost, every loss is signalled in time, and every waiter is
/// served.
#[test]
fn histories_are_right_while_sessions_and_server_fail() {
    const ALL: [Mishap; 8] = [
        Mishap::ProcessKilled,
        Mishap::ProcessFrozen,
        Mishap::Cut,
        Mishap::Stalled,
        Mishap::HalfOpen,
        Mishap::Slow,
        Mishap::ServerPaused,
        Mishap::ServerKilled,
    ];
    if let Some(helper) = Helper::current() {
        return block_on(run_contender(helper, client));
    }
    block_on(async {
        let server = Server::start_with(&["-c", "fsync=on"]).await;
        let seed = rand::random();
        println!("seed {seed}");
        let workload = Workload::mixed(Duration::from_secs(2));
        let arena = Arena::new(workload, this_test!(), server.0.url(), Some(&server.0), 6, seed).await;
        let ended = Cell::new(0);
        let outcome = tokio::select! {
            outcome = arena.run(Duration::from_secs(40), &ALL, Duration::from_millis(250)) => outcome,
            () = end_sessions(server.0.url(), &ended) => unreachable!("it goes on for ever"),
        };
        let ended = ended.get();
        println!("{ended} sessions ended, {:?}\n{}", outcome.mishaps, outcome.verdict.counts);
        let counts = outcome.verdict.into_result().unwrap_or_else(|violation| panic!("{violation}"));
        assert!(counts.acquisitions > 30 && ended > 10, "{ended} sessions ended, {counts}");
    });
}

/// Connects, and retries while its sessions are ended.
async fn client(url: &str) -> Client {
    let config = PostgresConfig::from_url(url).unwrap().restart_grace(Duration::ZERO).unwrap();
    loop {
        match Client::builder().connect(PostgresBackend::connect(config.clone())).await {
            Err(ConnectError::Unreachable(failure)) => println!("{failure}"),
            other => return other.unwrap(),
        }
    }
}

/// Ends a session of rlock's from time to time, as long as it is polled.
async fn end_sessions(url: &str, ended: &Cell<usize>) {
    const END_ONE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rlock' \
                           ORDER BY random() LIMIT 1";
    loop {
        tokio::time::sleep(Duration::from_millis(rand::random_range(50..500))).await;
        let end = async { PgConnection::connect(url).await?.fetch_all(END_ONE).await };
        // The server stalls or is down from time to time.
        if let Ok(Ok(sessions)) = timeout(Duration::from_secs(1), end).await {
            ended.set(ended.get() + sessions.len());
        }
    }
}
