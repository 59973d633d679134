//! The changes that a crash of the server may lose, and those that it may not.

use rlock_core::{Acquired, Backend as _, Extended, Extension, IfBusy, Share};
use rlock_postgres::PostgresBackend;
use rlock_testkit::faults::{Control as _, Data};

use crate::support::{Endpoint, Server, claim, key, release, ttl};

/// The arguments of a server that flushes its log in the background rarely.
const FLUSHING: [&str; 6] = ["-c", "fsync=on", "-c", "wal_writer_delay=10s", "-c", "autovacuum=off"];

/// A release, a place in the queue and its renewal do not wait for the disk. A crash that loses them lets no two
/// clients hold.
async fn crash_forgets(endpoint: fn(&str) -> Endpoint) {
    let server = Server::start_with(&FLUSHING).await;
    let endpoint = endpoint(server.0.url());
    let connect = || PostgresBackend::connect(server.config_of(endpoint.url()));
    let client = connect().await.unwrap();
    let try_claim = |name: &str, id| claim(name, id, Share::EXCLUSIVE, IfBusy::Refuse);
    let Ok(Acquired::Held(kept)) = client.acquire(&[try_claim("kept", 1)]).await.remove(0) else {
        panic!("it is free")
    };
    let Ok(Acquired::Held(before)) = client.acquire(&[try_claim("given back", 2)]).await.remove(0) else {
        panic!("it is free")
    };
    server.stop_wal_writer().await;
    // None of these is in the log on disk.
    release(&client, "given back", 2).await;
    let waiter = claim("kept", 3, Share::EXCLUSIVE, IfBusy::Queue);
    assert!(matches!(client.acquire(std::slice::from_ref(&waiter)).await[0], Ok(Acquired::Queued(_))));
    let extension = |id| Extension { key: key("kept", id), ttl: ttl(60_000) };
    assert!(matches!(client.extend(&[extension(3)]).await[0], Ok(Extended::Queued(_))));
    server.0.kill().await;
    server.0.restart(Data::Kept).await;

    let client = loop {
        // A pooler needs a moment to find the server again.
        if let Ok(client) = connect().await {
            break client;
        }
    };
    let extended = client.extend(&[extension(1)]).await.remove(0);
    assert!(matches!(extended, Ok(Extended::Held(grant)) if grant.token == kept.token), "{extended:?}");
    // The waiter learns that its place is gone, and joins again.
    assert!(matches!(client.extend(&[extension(3)]).await[0], Ok(Extended::Gone { taken: true })));
    assert!(matches!(client.acquire(&[waiter]).await[0], Ok(Acquired::Queued(_))));
    // The released lease exists again, until it expires.
    let next = try_claim("given back", 4);
    assert!(matches!(client.acquire(std::slice::from_ref(&next)).await[0], Ok(Acquired::Busy)));
    server.query("UPDATE rlock.locks SET expires = 1 WHERE name = 'given back'");
    let Ok(Acquired::Held(after)) = client.acquire(&[next]).await.remove(0) else { panic!("the lease expired") };
    assert!(after.token > before.token);
}

#[tokio::test]
async fn crash_forgets_releases_and_places_but_no_grants() {
    crash_forgets(Endpoint::direct).await;
}

#[tokio::test]
async fn a_crash_behind_poolers_forgets_no_grants() {
    crash_forgets(Endpoint::pooled).await;
}

/// A server that has lost a renewal ends a lease that its holder still believes in. The holder that renews is the last of
/// `holders`: it has a row of its own, unless it is the only one.
async fn crash_keeps_a_renewal(endpoint: fn(&str) -> Endpoint, holders: u32) {
    let server = Server::start_with(&FLUSHING).await;
    let endpoint = endpoint(server.0.url());
    let client = PostgresBackend::connect(server.config_of(endpoint.url())).await.unwrap();
    for id in 1..=holders {
        let permit = claim("x", id.into(), Share::new(1, holders).unwrap(), IfBusy::Refuse);
        let answer = client.acquire(&[permit]).await.remove(0);
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
    }
    server.stop_wal_writer().await;
    let extension = Extension { key: key("x", holders.into()), ttl: ttl(600_000) };
    let extended = client.extend(&[extension]).await.remove(0);
    assert!(matches!(extended, Ok(Extended::Held(_))), "{extended:?}");
    server.0.kill().await;
    server.0.restart(Data::Kept).await;
    let table = if holders == 1 { "locks" } else { "leases" };
    let life = server.number(&format!("SELECT (expires - since) / 1000000 FROM rlock.{table}"));
    assert!(life >= 600, "the lease ends after {life} s: the crash has lost its renewal");
}

#[tokio::test]
async fn crash_keeps_the_renewal_of_a_holder() {
    crash_keeps_a_renewal(Endpoint::direct, 1).await;
}

#[tokio::test]
async fn crash_keeps_the_renewal_of_a_permit() {
    crash_keeps_a_renewal(Endpoint::direct, 2).await;
}

#[tokio::test]
async fn pooled_crash_keeps_the_renewal_of_a_holder() {
    crash_keeps_a_renewal(Endpoint::pooled, 1).await;
}

#[tokio::test]
async fn pooled_crash_keeps_the_renewal_of_a_permit() {
    crash_keeps_a_renewal(Endpoint::pooled, 2).await;
}
