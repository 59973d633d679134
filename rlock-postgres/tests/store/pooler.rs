//! A pooler that fails or is slow, and rows that an operator deletes, under locks.

use std::time::Duration;

use rlock_core::LossReason;
use rlock_testkit::faults::{Control as _, Data, Proxy};
use rlock_testkit::servers::PgBouncer;

use crate::support::{Endpoint, Server, hold};

const DELETE: &str = "DELETE FROM rlock.locks; DELETE FROM rlock.leases";

#[tokio::test]
async fn restarted_pooler_loses_no_lock() {
    let server = Server::start().await;
    let pooler = PgBouncer::start(server.0.url());
    let (holder, other) = (server.locks(pooler.url()).await, server.locks(pooler.url()).await);
    let guard = hold(&holder, "x", Duration::from_secs(30)).await;
    let waiting = tokio::spawn(async move { hold(&other, "x", Duration::from_secs(30)).await });
    server.wait_for("SELECT sum(waiting) FROM rlock.locks", "1").await;
    pooler.restart(Data::Kept).await;
    guard.extend(Duration::from_secs(60)).await.unwrap();
    assert!(!waiting.is_finished(), "two clients have the lock");
    let token = guard.token();
    guard.unlock().await.unwrap();
    assert!(waiting.await.unwrap().token() > token);
}

/// It refuses transactions of several messages.
#[tokio::test]
async fn pooler_in_statement_mode_serves_locks() {
    let server = Server::start().await;
    let pooler = PgBouncer::start_for_statements(server.0.url());
    let (holder, other) = (server.locks(pooler.url()).await, server.locks(pooler.url()).await);
    let guard = hold(&holder, "x", Duration::from_secs(30)).await;
    let waiting = tokio::spawn(async move { hold(&other, "x", Duration::from_secs(30)).await });
    server.wait_for("SELECT sum(waiting) FROM rlock.locks", "1").await;
    guard.extend(Duration::from_secs(60)).await.unwrap();
    guard.unlock().await.unwrap();
    waiting.await.unwrap().unlock().await.unwrap();
}

/// A poll that is delivered late would delete a notification, and its answer reaches no client.
#[tokio::test]
async fn late_polls_behind_a_pooler_lose_no_grant() {
    let server = Server::start().await;
    let pooler = PgBouncer::start(server.0.url());
    let proxy = Proxy::in_front_of(pooler.url());
    let (holder, waiter) = (server.locks(server.0.url()).await, server.locks(proxy.url()).await);
    let guard = hold(&holder, "x", Duration::from_secs(120)).await;
    let waiting = tokio::spawn(async move { hold(&waiter, "x", Duration::from_secs(120)).await });
    server.wait_for("SELECT sum(waiting) FROM rlock.locks", "1").await;
    proxy.strand();
    // Bytes pass again when a poll has timed out and the next one uses a new connection. Soon polls are 200 ms apart.
    let next_poll = async || {
        let passed = proxy.passed();
        while proxy.passed() == passed {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    for _ in 0..20 {
        next_poll().await;
    }
    guard.unlock().await.unwrap();
    proxy.heal();
    let granted = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    granted.expect("it need not wait for its renewal").unwrap().unlock().await.unwrap();
}

/// The holder learns of it when it renews, and another client may hold the lock until then.
async fn deleted_rows_are_a_loss(endpoint: fn(&str) -> Endpoint) {
    let server = Server::start().await;
    let endpoint = endpoint(server.0.url());
    let (holder, other) = (server.locks(endpoint.url()).await, server.locks(endpoint.url()).await);
    let guard = hold(&holder, "x", Duration::from_secs(2)).await;
    server.query(DELETE);
    let next = hold(&other, "x", Duration::from_secs(2)).await;
    assert!(next.token() > guard.token());
    let reason = tokio::time::timeout(Duration::from_secs(2), guard.lost()).await.expect("its TTL is over");
    assert!(matches!(reason, LossReason::TakenOver | LossReason::Gone), "{reason:?}");
    assert!(next.is_held());
    next.unlock().await.unwrap();
}

#[tokio::test]
async fn deleted_rows_are_a_loss_to_their_holder() {
    deleted_rows_are_a_loss(Endpoint::direct).await;
}

#[tokio::test]
async fn deleted_rows_are_a_loss_behind_a_pooler() {
    deleted_rows_are_a_loss(Endpoint::pooled).await;
}
