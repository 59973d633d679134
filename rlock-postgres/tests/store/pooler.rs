//! A pooler that fails, and rows that an operator deletes, under locks.

use std::time::Duration;

use rlock_core::{Client, Guard, LockOptions, LossReason, SimpleLock};
use rlock_postgres::PostgresBackend;
use rlock_testkit::faults::{Control as _, Data};
use rlock_testkit::servers::PgBouncer;

use crate::support::Server;

const DELETE: &str = "DELETE FROM rlock.locks; DELETE FROM rlock.leases";

async fn client(server: &Server, url: &str) -> Client {
    Client::builder().connect(PostgresBackend::connect(server.config_of(url))).await.unwrap()
}

async fn hold(client: &Client, ttl: Duration) -> Guard {
    SimpleLock::new("x", client).unwrap().lock_with(LockOptions::new().ttl(ttl)).await.unwrap()
}

#[tokio::test]
async fn restarted_pooler_loses_no_lock() {
    let server = Server::start().await;
    let pooler = PgBouncer::start(server.0.url());
    let (holder, other) = (client(&server, pooler.url()).await, client(&server, pooler.url()).await);
    let guard = hold(&holder, Duration::from_secs(30)).await;
    let waiting = tokio::spawn(async move { hold(&other, Duration::from_secs(30)).await });
    server.wait_for("SELECT sum(waiting) FROM rlock.locks", "1").await;
    pooler.restart(Data::Kept).await;
    guard.extend(Duration::from_secs(60)).await.unwrap();
    let token = guard.token();
    guard.unlock().await.unwrap();
    assert!(waiting.await.unwrap().token() > token);
}

/// The holder learns of it when it renews, and another client may hold the lock until then.
async fn deleted_rows_are_a_loss(server: &Server, url: &str) {
    let (holder, other) = (client(server, url).await, client(server, url).await);
    let guard = hold(&holder, Duration::from_secs(2)).await;
    server.query(DELETE);
    let next = hold(&other, Duration::from_secs(2)).await;
    assert!(next.token() > guard.token());
    let reason = tokio::time::timeout(Duration::from_secs(2), guard.lost()).await.expect("its TTL is over");
    assert!(matches!(reason, LossReason::TakenOver | LossReason::Gone), "{reason:?}");
    assert!(next.is_held());
    next.unlock().await.unwrap();
}

#[tokio::test]
async fn deleted_rows_are_a_loss_to_their_holder() {
    let server = Server::start().await;
    deleted_rows_are_a_loss(&server, server.0.url()).await;
}

#[tokio::test]
async fn deleted_rows_are_a_loss_behind_a_pooler() {
    let server = Server::start().await;
    let pooler = PgBouncer::start(server.0.url());
    deleted_rows_are_a_loss(&server, pooler.url()).await;
}
