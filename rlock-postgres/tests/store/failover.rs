//! A standby that is promoted: to replace a dead primary, and beside one that it is cut off from.

use std::time::Duration;

use rlock_core::{Backend as _, ConnectError, IfBusy, LossReason, Share};
use rlock_postgres::PostgresBackend;
use rlock_testkit::faults::{Control as _, Proxy};
use rlock_testkit::servers::Postgres;
use rlock_testkit::wait::within;

use crate::support::{Endpoint, Server, claim, hold};

const TTL: Duration = Duration::from_secs(30);

/// A primary, its standby, and the connection between them.
struct Pair {
    standby: Server,
    replication: Proxy,
    primary: Server,
}

impl Pair {
    async fn start() -> Self {
        let primary = Server::with_tables(Postgres::start_program(&[], &[])).await;
        let replication = Proxy::in_front_of(primary.0.url());
        let standby = Server(Postgres::start_standby(replication.url()));
        Self { standby, replication, primary }
    }

    /// Waits until the standby has all that the primary has committed, and then cuts it off.
    async fn cut_off_standby(&self) {
        let written = self.primary.value("SELECT pg_current_wal_insert_lsn()");
        self.standby.wait_for(&format!("SELECT pg_last_wal_replay_lsn() >= '{written}'"), "t").await;
        self.replication.cut();
        self.primary.wait_for("SELECT count(*) FROM pg_stat_replication", "0").await;
    }

    fn promote_standby(&self) {
        assert_eq!(self.standby.value("SELECT pg_promote()"), "t");
    }
}

/// The standby grants a lock that it does not know of. The holder learns of it at the first renewal that the standby
/// answers. Locks that were replicated go on.
async fn standby_grants_unreplicated_locks_again(endpoint: fn(&str) -> Endpoint) {
    let pair = Pair::start().await;
    let fronts = [(); 2].map(|()| Proxy::in_front_of(pair.primary.0.url()));
    let endpoints = fronts.each_ref().map(|front| endpoint(front.url()));
    let (holder, other) = (pair.primary.locks(endpoints[0].url()).await, pair.primary.locks(endpoints[1].url()).await);
    let replicated = hold(&holder, "replicated", TTL).await;
    pair.cut_off_standby().await;
    let guard = hold(&holder, "x", TTL).await;
    pair.primary.0.kill().await;
    pair.promote_standby();

    fronts[1].lead_to(pair.standby.0.url());
    let next = hold(&other, "x", TTL).await;
    assert!(guard.is_held(), "it has not reached the standby, and its deadline is in half a minute");
    assert!(next.token() > guard.token());
    fronts[0].lead_to(pair.standby.0.url());
    replicated.extend(TTL).await.unwrap();
    let extended = guard.extend(TTL).await;
    assert!(extended.is_err(), "{extended:?}");
    assert_eq!(within(TTL, "the renewal says it", guard.lost()).await, LossReason::TakenOver);
    next.unlock().await.unwrap();
    replicated.unlock().await.unwrap();
}

#[tokio::test]
async fn unreplicated_locks_are_granted_again_after_failover() {
    standby_grants_unreplicated_locks_again(Endpoint::direct).await;
}

#[tokio::test]
async fn unreplicated_locks_behind_poolers_are_granted_again() {
    standby_grants_unreplicated_locks_again(Endpoint::pooled).await;
}

/// Each of two primaries renews the lock that it has granted. The later one has the greater token.
async fn isolated_primaries_both_grant(endpoint: fn(&str) -> Endpoint) {
    let pair = Pair::start().await;
    let primary = endpoint(pair.primary.0.url());
    let guard = hold(&pair.primary.locks(primary.url()).await, "x", TTL).await;
    pair.cut_off_standby().await;
    pair.promote_standby();
    // The standby has no renewals of the lease, which ends there.
    pair.standby.query("UPDATE rlock.locks SET expires = 1");
    let standby = endpoint(pair.standby.0.url());
    let next = hold(&pair.standby.locks(standby.url()).await, "x", TTL).await;
    assert!(next.token() > guard.token());
    for _ in 0..2 {
        guard.extend(TTL).await.unwrap();
        next.extend(TTL).await.unwrap();
    }
    assert!(guard.is_held() && next.is_held());
}

#[tokio::test]
async fn isolated_primaries_both_grant_locks() {
    isolated_primaries_both_grant(Endpoint::direct).await;
}

#[tokio::test]
async fn isolated_primaries_behind_poolers_both_grant_locks() {
    isolated_primaries_both_grant(Endpoint::pooled).await;
}

/// With its tables and without them.
#[tokio::test]
async fn a_hot_standby_is_refused_with_a_remedy() {
    let primary = Server(Postgres::start_program(&[], &[]));
    let standby = Server(Postgres::start_standby(primary.0.url()));
    let endpoints = [Endpoint::direct(standby.0.url()), Endpoint::pooled(standby.0.url())];
    for has_tables in ["f", "t"] {
        standby.wait_for("SELECT to_regclass('rlock.state') IS NOT NULL", has_tables).await;
        for endpoint in &endpoints {
            let refused = PostgresBackend::connect(standby.config_of(endpoint.url())).await.unwrap_err();
            let message = refused.to_string();
            assert!(matches!(refused, ConnectError::Unreachable(_)), "{message}");
            assert!(message.contains("let the URL name the primary"), "{message}");
        }
        PostgresBackend::ensure_schema(&primary.config()).await.unwrap();
    }
}

/// The client gives up a claim that waits for a replica, and ends its session. That makes the grant visible.
#[tokio::test]
async fn unreplicated_grant_is_never_confirmed() {
    // Only the sessions of one role wait for the replica, which does not exist.
    let server =
        Server::start_with(&["-c", "synchronous_standby_names=nobody", "-c", "synchronous_commit=local"]).await;
    server.query(
        "CREATE ROLE jobs LOGIN; ALTER ROLE jobs SET synchronous_commit = on; GRANT USAGE ON SCHEMA rlock TO jobs; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rlock TO jobs",
    );
    server.query("CHECKPOINT"); // the process that serves it has also announced the replica
    let url = server.0.url().replace("//postgres@", "//jobs@");
    let client = PostgresBackend::connect(server.config_of(&url)).await.unwrap();
    let claims = [claim("x", 1, Share::EXCLUSIVE, IfBusy::Refuse)];
    for _ in 0..3 {
        let answer = client.acquire(&claims).await.remove(0);
        assert!(answer.is_err(), "{answer:?}");
        server.wait_for("SELECT count(*) FROM rlock.locks", "1").await;
    }
}
