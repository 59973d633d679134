//! A server whose clock is set while locks are held.

use std::time::Duration;

use rlock_core::{Acquired, Backend as _, Claim, IfBusy, LossReason, Share};
use rlock_postgres::PostgresBackend;
use rlock_testkit::wait::within;

use crate::support::{Endpoint, Server, claim, hold, key, release, ttl};

const TTL: Duration = Duration::from_secs(30);
const HOUR: i64 = 3600;

/// The server grants the lock again at once, and its holder learns of it at the next renewal.
async fn clock_set_forward_ends_leases_early(endpoint: fn(&str) -> Endpoint) {
    let (server, clock) = Server::start_with_clock().await;
    let endpoint = endpoint(server.0.url());
    let (holder, other) = (server.locks(endpoint.url()).await, server.locks(endpoint.url()).await);
    let guard = hold(&holder, "x", TTL).await;
    clock.set(&server, HOUR);
    let next = hold(&other, "x", TTL).await;
    assert!(guard.is_held(), "its deadline is in half a minute");
    assert!(next.token() > guard.token());
    let extended = guard.extend(TTL).await;
    assert!(extended.is_err(), "{extended:?}");
    assert_eq!(within(TTL, "the renewal says it", guard.lost()).await, LossReason::TakenOver);
    next.extend(TTL).await.unwrap();
    next.unlock().await.unwrap();
}

#[tokio::test]
async fn a_clock_set_forward_ends_leases_early() {
    clock_set_forward_ends_leases_early(Endpoint::direct).await;
}

#[tokio::test]
async fn a_clock_set_forward_ends_leases_behind_poolers() {
    clock_set_forward_ends_leases_early(Endpoint::pooled).await;
}

/// Held locks stay held, and a lease that no client renews lives for as much longer. Tokens increase.
async fn clock_set_back_lengthens_leases(endpoint: fn(&str) -> Endpoint) {
    let (server, clock) = Server::start_with_clock().await;
    let endpoint = endpoint(server.0.url());
    let client = PostgresBackend::connect(server.config_of(endpoint.url())).await.unwrap();
    let brief = |id| Claim { ttl: ttl(1_000), ..claim("left", id, Share::EXCLUSIVE, IfBusy::Refuse) };
    clock.set(&server, HOUR);
    let guard = hold(&server.locks(endpoint.url()).await, "x", TTL).await;
    let Ok(Acquired::Held(before)) = client.acquire(&[brief(1)]).await.remove(0) else { panic!("it is free") };
    clock.set(&server, 0);
    guard.extend(TTL).await.unwrap();
    guard.unlock().await.unwrap();
    let left = client.inspect(&key("left", 1).resource).await.unwrap().holders.remove(0).remaining;
    assert!(left > Duration::from_secs(3000), "{left:?}");
    assert!(matches!(client.acquire(&[brief(2)]).await[0], Ok(Acquired::Busy)));
    release(&client, "left", 1).await;
    let Ok(Acquired::Held(after)) = client.acquire(&[brief(2)]).await.remove(0) else { panic!("it was released") };
    assert!(after.token > before.token);
}

#[tokio::test]
async fn a_clock_set_back_lengthens_leases() {
    clock_set_back_lengthens_leases(Endpoint::direct).await;
}

#[tokio::test]
async fn a_clock_set_back_lengthens_leases_behind_poolers() {
    clock_set_back_lengthens_leases(Endpoint::pooled).await;
}
