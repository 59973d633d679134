//! A server whose disk is full.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use rlock_core::{Backend as _, IfBusy, LossReason, Share};
use rlock_postgres::PostgresBackend;
use rlock_testkit::faults::{Control as _, Data};
use rlock_testkit::servers::{PgWire, Postgres};

use crate::support::{Endpoint, Server, claim, hold};

const BRIEF: Duration = Duration::from_secs(5);
const TTL: Duration = Duration::from_secs(60);

/// The next segments of a server's log, which are on a device without room.
struct FullDisk([PathBuf; 2]);

impl FullDisk {
    fn of(server: &Server) -> Self {
        let log = PathBuf::from(server.value("SHOW data_directory")).join("pg_wal");
        let current = server.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
        let (before, number) = current.split_at(16); // a file has 1 MB, so that this is the rest of the number
        let number = u32::from_str_radix(number, 16).unwrap();
        let next = [1, 2].map(|ahead| log.join(format!("{before}{:08X}", number + ahead)));
        for segment in &next {
            let _reserve = std::fs::remove_file(segment);
            symlink("/dev/full", segment).unwrap();
        }
        // Uses up the current segment. The server goes down at its next write, which may be before it answers.
        let _down = PgWire::connect(server.0.url()).and_then(|mut wire| wire.query("SELECT pg_switch_wal()"));
        Self(next)
    }

    fn make_room(self) {
        self.0.iter().for_each(|segment| std::fs::remove_file(segment).unwrap());
    }
}

/// A lock is lost at its deadline, before another client gets it. One whose deadline comes later stays held.
async fn full_disk_ends_locks_at_their_deadlines(endpoint: fn(&str) -> Endpoint) {
    let server = Server::with_tables(Postgres::start_program(&[], &[])).await;
    let endpoint = endpoint(server.0.url());
    let (holder, other) = (server.locks(endpoint.url()).await, server.locks(endpoint.url()).await);
    let backend = PostgresBackend::connect(server.config_of(endpoint.url())).await.unwrap();
    let (brief, long) = (hold(&holder, "brief", BRIEF).await, hold(&holder, "long", TTL).await);
    let waiting = tokio::spawn(async move { hold(&other, "brief", TTL).await });
    server.wait_for("SELECT sum(waiting) FROM rlock.locks", "1").await;

    let disk = FullDisk::of(&server);
    let refused = backend.acquire(&[claim("another", 1, Share::EXCLUSIVE, IfBusy::Refuse)]).await.remove(0);
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(brief.lost().await, LossReason::Expired);
    assert!(!waiting.is_finished());

    disk.make_room();
    server.0.restart(Data::Kept).await;
    let next = waiting.await.unwrap();
    assert!(!brief.is_held());
    assert!(next.token() > brief.token());
    long.extend(TTL).await.unwrap();
    long.unlock().await.unwrap();
    next.unlock().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_ends_locks_at_their_deadlines() {
    full_disk_ends_locks_at_their_deadlines(Endpoint::direct).await;
}

#[tokio::test]
async fn a_full_disk_ends_locks_behind_poolers() {
    full_disk_ends_locks_at_their_deadlines(Endpoint::pooled).await;
}
