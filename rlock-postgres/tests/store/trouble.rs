//! A server that fails requests, and other sessions that are in the way.

use std::time::Duration;

use rlock_core::{
    Acquired, Backend as _, BackendError, Baseline as _, Client, Extended, Extension, IfBusy, ListFilter, Released,
    Share, SimpleLock,
};
use rlock_postgres::{ConnectError, PostgresBackend, PostgresBaseline, PostgresConfig};
use rlock_testkit::faults::{Control as _, Proxy};
use rlock_testkit::servers::Postgres;
use rlock_testkit::wait::eventually;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::{Server, claim, key, release, ttl};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn role_needs_only_rights_on_the_tables() {
    let server = Server::start().await;
    server.query(
        "CREATE ROLE jobs LOGIN; GRANT USAGE ON SCHEMA rlock TO jobs; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rlock TO jobs; CREATE ROLE nobody LOGIN",
    );
    let url = |user: &str| server.0.url().replace("//postgres@", &format!("//{user}@"));
    let (one, other) = (
        PostgresBackend::connect(server.config_of(&url("jobs"))).await.unwrap(),
        PostgresBackend::connect(server.config_of(&url("jobs"))).await.unwrap(),
    );
    assert!(matches!(one.acquire(&[exclusive("x", 1)]).await[0], Ok(Acquired::Held(_))));
    assert!(matches!(other.acquire(&[exclusive("x", 2)]).await[0], Ok(Acquired::Queued(_))));
    let extension = Extension { key: key("x", 1), ttl: ttl(60_000) };
    assert!(matches!(one.extend(&[extension]).await[0], Ok(Extended::Held(_))));
    assert_eq!(one.inspect(&key("x", 1).resource).await.unwrap().queue.len(), 1);
    assert_eq!(one.break_leases(&key("x", 1).resource).await.unwrap(), 1);
    release(&other, "x", 2).await;
    // It creates no tables, and does not need to.
    PostgresBackend::ensure_schema(&server.config_of(&url("jobs"))).await.unwrap();

    let refused = PostgresBackend::connect(server.config_of(&url("nobody"))).await.unwrap_err();
    let message = refused.to_string();
    assert!(matches!(refused, ConnectError::Rejected(_)), "{message}");
    assert!(message.contains("USAGE on the schema \"rlock\", and SELECT, INSERT, UPDATE and DELETE"), "{message}");
}

#[tokio::test]
async fn first_connection_may_take_its_whole_timeout() {
    let server = Server::start().await;
    let proxy = Proxy::in_front_of(server.0.url());
    proxy.slow(Duration::from_millis(400)); // in each direction, and logging in takes several round trips
    let config = server.config_of(proxy.url()).connect_timeout(Duration::from_secs(20)).unwrap();
    PostgresBackend::ensure_schema(&config).await.unwrap();
    PostgresBackend::connect(config).await.unwrap();
}

#[tokio::test]
async fn tables_are_made_once_by_the_first_client() {
    let server = Postgres::start_with(&["-c", "fsync=off"]);
    let config = PostgresConfig::from_url(server.url()).unwrap().schema("select").unwrap();
    let missing = PostgresBackend::connect(config.clone().without_creating()).await.unwrap_err();
    assert!(matches!(missing, ConnectError::Rejected(_)), "{missing}");
    assert!(missing.to_string().contains("create them by `rlock schema`"), "{missing}");

    let make = |config: PostgresConfig| async move { PostgresBackend::ensure_schema(&config).await };
    let made: Vec<_> = (0..16).map(|_| tokio::spawn(make(config.clone()))).collect();
    for made in made {
        made.await.unwrap().unwrap();
    }
    server.query(&PostgresBackend::schema_sql(&config));
    assert_eq!(server.query("SELECT count(*) FROM \"select\".state"), [[Some("1".to_owned())]]);
    PostgresBackend::connect(config).await.unwrap();
}

#[tokio::test]
async fn listings_skip_resources_without_live_leases() {
    let server = Server::start().await;
    let client = server.client().await;
    let half = |id| claim("b", id, Share::new(1, 2).unwrap(), IfBusy::Refuse);
    for claim in [exclusive("a", 1), half(2), half(3)] {
        let answer = client.acquire(&[claim]).await.remove(0);
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
    }
    // The first lease of each resource expires.
    server.query("UPDATE rlock.locks SET expires = 1");
    let page = client.list(&ListFilter { limit: 1, ..ListFilter::default() }).await.unwrap();
    let [entry] = &page.entries[..] else { panic!("{page:?}") };
    assert_eq!((entry.resource.as_str(), entry.holders), ("b", 1));
}

#[tokio::test]
async fn a_baseline_deletes_its_rows_in_batches() {
    let server = Server::start().await;
    let baseline = PostgresBaseline::connect(server.config()).await.unwrap();
    server.query(
        "CREATE FUNCTION bound() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF (SELECT count(*) FROM deleted) > 1000 THEN RAISE 'one statement deletes too many rows'; END IF; \
             RETURN NULL; END $$; \
         CREATE TRIGGER bound AFTER DELETE ON rlock.locks REFERENCING OLD TABLE AS deleted \
             FOR EACH STATEMENT EXECUTE FUNCTION bound(); \
         INSERT INTO rlock.locks \
             (namespace, name, last, capacity, weight, token, since, expires, shared, waiting, head, tail, ended_at) \
             SELECT namespace, 'bare/' || n, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0 FROM unnest(ARRAY['rlock', 'other']) AS namespace, generate_series(1, 2500) AS n; \
         INSERT INTO rlock.leases (namespace, name, place, weight, since, expires) \
             SELECT namespace, name, 1, 1, 0, 0 FROM rlock.locks",
    );
    baseline.clean_up().await.unwrap();
    for table in ["locks", "leases"] {
        let left = server.query(&format!("SELECT namespace, count(*) FROM rlock.{table} GROUP BY namespace"));
        assert_eq!(left, [["other", "2500"].map(|value| Some(value.to_owned()))], "{table}");
    }
}

#[tokio::test]
async fn locked_row_delays_no_other_row() {
    let server = Server::start().await;
    let client = server.client().await;
    let claims = ["a", "b", "c"].map(|name| exclusive(name, 1));
    client.acquire(&claims).await;
    let mut admin = PgConnection::connect(server.0.url()).await.unwrap();
    admin.execute("BEGIN; SELECT FROM rlock.locks WHERE name = 'b' FOR UPDATE").await.unwrap();

    let extensions = ["a", "b", "c"].map(|name| Extension { key: key(name, 1), ttl: ttl(60_000) });
    // A busy server may answer later than the client waits.
    let others_are_renewed = async || {
        let answers = client.extend(&extensions).await;
        let is_renewed = |at: usize| matches!(answers[at], Ok(Extended::Held(_)));
        is_renewed(0) && is_renewed(2) && matches!(answers[1], Err(BackendError::NotApplied(_)))
    };
    eventually(SOON, "the renewal of the others", others_are_renewed).await;
    admin.execute("COMMIT").await.unwrap();
    let is_renewed = async || matches!(client.extend(&extensions).await[1], Ok(Extended::Held(_)));
    eventually(SOON, "the renewal of the row", is_renewed).await;
}

/// The claim of a new name waits for its flush, and its client gives it up and releases the lease.
#[tokio::test]
async fn a_release_waits_for_a_hidden_claim() {
    let server = Server::start().await;
    let client = server.client().await;
    let release = async || client.release(&[key("x", 1).into()]).await.remove(0);
    assert!(matches!(release().await, Ok(Released::Absent)));
    assert_eq!(server.number("SELECT count(*) FROM rlock.locks"), 0, "a release leaves no row");
    let mut claiming = PgConnection::connect(server.0.url()).await.unwrap();
    claiming
        .execute(
            "BEGIN; INSERT INTO rlock.locks (namespace, name, last, capacity, id, weight, token, since, expires, shared, \
             waiting, head, tail, ended_at) VALUES ('rlock', 'x', 1, 1, '00000000-0000-0000-0000-000000000001', 1, 1, 0, \
             9000000000000000, 0, 0, 1, 0, 0)",
        )
        .await
        .unwrap();
    let early = release().await;
    assert!(early.is_err(), "the claim has not ended, and the release answers {early:?}");
    claiming.execute("COMMIT").await.unwrap();
    let released = release().await;
    assert!(released.is_ok(), "{released:?}");
    assert_eq!(server.value("SELECT expires FROM rlock.locks"), "0");
}

#[tokio::test]
async fn a_server_that_stands_still_fails_no_look() {
    let server = Server::start().await;
    let client = server.client().await;
    client.acquire(&[exclusive("a", 1)]).await.remove(0).unwrap();
    let (name, all) = (key("a", 1).resource, ListFilter::default());
    server.0.pause().await;
    let resume = async {
        // Longer than the first time limit of a statement.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        server.0.resume().await;
    };
    let (looked, listed, ()) = tokio::join!(client.inspect(&name), client.list(&all), resume);
    assert_eq!(looked.unwrap().holders.len(), 1);
    assert_eq!(listed.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn sessions_that_an_administrator_ends_lose_no_lock() {
    let server = Server::start().await;
    let lock = |client: Client, name: &'static str| async move {
        SimpleLock::new(name, &client).unwrap().lock().await.unwrap()
    };
    let client = Client::builder().connect(PostgresBackend::connect(server.config())).await.unwrap();
    let other = Client::builder().connect(PostgresBackend::connect(server.config())).await.unwrap();
    for _ in 0..10 {
        let guard = lock(client.clone(), "x").await;
        let waiting = tokio::spawn(lock(other.clone(), "x"));
        while server.number("SELECT count(*) FROM rlock.locks WHERE waiting = 1") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rlock'");
        assert!(guard.is_held());
        guard.unlock().await.unwrap();
        waiting.await.unwrap().unlock().await.unwrap();
    }
}

#[tokio::test]
async fn read_only_period_loses_no_lock() {
    let server = Server::start().await;
    let client = Client::builder().connect(PostgresBackend::connect(server.config())).await.unwrap();
    let guard = SimpleLock::new("x", &client).unwrap().lock().await.unwrap();
    let read_only = |on: &str| {
        server.query(&format!("ALTER SYSTEM SET default_transaction_read_only = {on}"));
        server.query("SELECT pg_reload_conf()");
        while server.value("SHOW default_transaction_read_only") != on {}
    };
    read_only("on");
    let backend = server.client().await;
    let refused = backend.acquire(&[exclusive("y", 1)]).await.remove(0);
    assert!(matches!(refused, Err(BackendError::NotApplied(_))), "{refused:?}");
    assert!(guard.extend(Duration::from_secs(60)).await.is_err());
    read_only("off");
    guard.extend(Duration::from_secs(60)).await.unwrap();
    guard.unlock().await.unwrap();
}

#[tokio::test]
async fn stricter_isolation_refuses_no_transaction() {
    let server = Server::start().await;
    server.query("ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'");
    let clients = [server.client().await, server.client().await];
    let cycles = clients.iter().enumerate().map(|(number, client)| async move {
        for cycle in 0..200 {
            let id = 2 * cycle + number as u128;
            let answer = client.acquire(&[claim("x", id, Share::new(1, 5).unwrap(), IfBusy::Queue)]).await.remove(0);
            assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
            release(client, "x", id).await;
        }
    });
    futures_util::future::join_all(cycles).await;
}

#[tokio::test]
async fn exhausted_pool_of_an_application_loses_no_lock() {
    let server = Server::start().await;
    let pool = PgPoolOptions::new().max_connections(1).connect(server.0.url()).await.unwrap();
    let config = PostgresConfig::from_pool(&pool).unwrap().restart_grace(Duration::ZERO).unwrap();
    let client = Client::builder().connect(PostgresBackend::connect(config)).await.unwrap();
    let _all_there_are = pool.acquire().await.unwrap();
    let guard = SimpleLock::new("x", &client).unwrap().lock().await.unwrap();
    guard.extend(Duration::from_secs(60)).await.unwrap();
    guard.unlock().await.unwrap();
}

#[tokio::test]
async fn exhausted_server_keeps_the_locks_of_clients() {
    let server = Server::start_with(&["-c", "max_connections=10"]).await;
    let client = server.client().await;
    assert!(matches!(client.acquire(&[exclusive("x", 1)]).await[0], Ok(Acquired::Held(_))));
    let mut others = Vec::new();
    while let Ok(other) = PgConnection::connect(server.0.url()).await {
        others.push(other);
    }
    let extension = Extension { key: key("x", 1), ttl: ttl(60_000) };
    assert!(matches!(client.extend(&[extension]).await[0], Ok(Extended::Held(_))));
    let config = server.config().connect_timeout(Duration::from_secs(10)).unwrap();
    let refused = PostgresBackend::connect(config).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Unreachable(_)), "{refused}");
    assert!(refused.to_string().contains("max_connections"), "{refused}");
    release(&client, "x", 1).await;
    drop(others);
    while PostgresBackend::connect(server.config()).await.is_err() {}
}

/// Each statement locks the rows of its batch in the order of their names, not of the batch.
#[tokio::test(flavor = "multi_thread")]
async fn batches_in_opposite_orders_do_not_deadlock() {
    let server = Server::start().await;
    let clients = [server.client().await, server.client().await];
    let semaphore = |name: &str, id: u128| claim(name, id, Share::new(1, 2).unwrap(), IfBusy::Refuse);
    let names: Vec<_> = (0..64).map(|number| format!("name {number}")).collect();
    for (id, client) in clients.iter().enumerate() {
        let claims: Vec<_> = names.iter().map(|name| semaphore(name, id as u128)).collect();
        assert!(client.acquire(&claims).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    }
    let extend = async |id: usize| {
        let extension = |name| Extension { key: key(name, id as u128), ttl: ttl(60_000) };
        let mut extensions: Vec<_> = names.iter().map(|name| extension(name)).collect();
        if id == 1 {
            extensions.reverse();
        }
        for _ in 0..100 {
            let answers = clients[id].extend(&extensions).await;
            assert!(answers.iter().all(|answer| matches!(answer, Ok(Extended::Held(_)))), "{answers:?}");
        }
    };
    tokio::join!(extend(0), extend(1));
    let deadlocks = server.number("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'");
    assert_eq!(deadlocks, 0);
}

fn exclusive(name: &str, id: u128) -> rlock_core::Claim {
    claim(name, id, Share::EXCLUSIVE, IfBusy::Queue)
}

#[tokio::test]
async fn clock_set_back_makes_no_tables_young() {
    let server = Server::start().await;
    let config = server.config().restart_grace(Duration::from_secs(3600)).unwrap();
    let client = PostgresBackend::connect(config).await.unwrap();
    let early = client.acquire(&[exclusive("x", 1)]).await.remove(0);
    assert!(matches!(early, Err(BackendError::NotApplied(_))), "{early:?}");
    // This simulates a clock that was an hour ahead when the tables were created.
    server.query("UPDATE rlock.state SET made = made + 3600000000");
    assert!(matches!(client.acquire(&[exclusive("x", 1)]).await[0], Ok(Acquired::Held(_))));
}
