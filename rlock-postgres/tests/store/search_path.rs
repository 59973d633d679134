//! Objects of other roles do not run as rlock's role, whatever its search path is.

use std::time::Duration;

use futures_util::StreamExt as _;
use rlock_core::{Acquired, Backend as _, Extended, Extension, IfBusy, ListFilter, Share};
use rlock_postgres::{ConnectError, PostgresBackend, PostgresConfig};
use rlock_testkit::servers::{PgBouncer, PgWire, Postgres};

use crate::support::{Server, claim, key, release, ttl};

/// Roles that may use the tables: one with the default search path, and one that searches `public` before `pg_catalog`.
const ROLES: [&str; 2] = ["jobs", "strayed"];

#[tokio::test]
async fn planted_objects_never_run_on_direct_connections() {
    let server = trapped().await;
    for role in ROLES {
        use_everything(&server, &url_of(role, server.0.url())).await;
    }
    assert_eq!(server.caught(), [""; 0]);
}

#[tokio::test]
async fn planted_objects_never_run_behind_a_pooler() {
    let server = trapped().await;
    for role in ROLES {
        let pooler = PgBouncer::start(&url_of(role, server.0.url()));
        use_everything(&server, pooler.url()).await;
    }
    assert_eq!(server.caught(), [""; 0]);
}

#[tokio::test]
async fn planted_objects_never_run_while_tables_are_made() {
    let server = Server(Postgres::start_with(&["-c", "fsync=off"]));
    server.set_traps();
    let config = |schema| server.config().schema(schema).unwrap();
    let make = async |schemas: [&'static str; 2]| {
        PostgresBackend::ensure_schema(&config(schemas[0])).await.unwrap();
        PostgresBackend::ensure_schema(&config(schemas[0])).await.unwrap();
        server.query(&PostgresBackend::schema_sql(&config(schemas[1])));
        server.query(&PostgresBackend::schema_sql(&config(schemas[1])));
    };
    make(["made_by_rlock", "made_by_psql"]).await;
    server.query("ALTER ROLE postgres SET search_path = public, pg_catalog");
    make(["made_by_rlock_astray", "made_by_psql_astray"]).await;
    server.query("ALTER ROLE postgres RESET search_path");
    assert_eq!(server.caught(), [""; 0]);
}

/// Another role could have created the tables, with triggers of its own.
#[tokio::test]
async fn a_schema_open_to_every_role_is_refused() {
    let server = Server(Postgres::start_with(&["-c", "fsync=off"]));
    server.query("GRANT CREATE ON SCHEMA public TO PUBLIC");
    let config = server.config().schema("public").unwrap();
    let assert_refused = |refused: ConnectError| {
        let message = refused.to_string();
        assert!(matches!(refused, ConnectError::Rejected(_)), "{message}");
        assert!(message.contains("every role may create objects in the schema public"), "{message}");
        assert!(message.contains("REVOKE CREATE ON SCHEMA \"public\" FROM PUBLIC"), "{message}");
    };
    assert_refused(PostgresBackend::ensure_schema(&config).await.unwrap_err());
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    let mut psql = PgWire::connect(server.0.url()).unwrap();
    let refused = psql.query(&PostgresBackend::schema_sql(&config)).unwrap_err().to_string();
    assert!(refused.contains("every role may create objects in the schema public"), "{refused}");
    assert_eq!(server.number(tables), 0);

    server.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    PostgresBackend::ensure_schema(&config).await.unwrap();
    PostgresBackend::connect(config.clone()).await.unwrap();
    server.query("GRANT CREATE ON SCHEMA public TO PUBLIC");
    assert_refused(PostgresBackend::connect(config).await.unwrap_err());
}

/// A server with rlock's tables, two roles that use them, and a third role that has set traps.
async fn trapped() -> Server {
    let server = Server::start().await;
    server.set_traps();
    for role in ROLES {
        server.query(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA rlock TO {role}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rlock TO {role}"
        ));
    }
    server.query("ALTER ROLE strayed SET search_path = public, pg_catalog");
    server
}

fn url_of(role: &str, url: &str) -> String {
    url.replace("//postgres@", &format!("//{role}@"))
}

/// Runs each statement of rlock.
async fn use_everything(server: &Server, url: &str) {
    let config = || -> PostgresConfig { server.config_of(url).keep_unused(Duration::from_secs(1)).unwrap() };
    PostgresBackend::ensure_schema(&config()).await.unwrap();
    let [one, other] =
        [PostgresBackend::connect(config()).await.unwrap(), PostgresBackend::connect(config()).await.unwrap()];
    let mut events = other.events();
    let [mutex, waiter] = [1, 2].map(|id| claim("mutex", id, Share::EXCLUSIVE, IfBusy::Queue));
    assert!(matches!(one.acquire(&[mutex]).await[0], Ok(Acquired::Held(_))));
    assert!(matches!(other.acquire(&[waiter]).await[0], Ok(Acquired::Queued(_))));
    let extension = |name, id| Extension { key: key(name, id), ttl: ttl(60_000) };
    assert!(matches!(one.extend(&[extension("mutex", 1)]).await[0], Ok(Extended::Held(_))));
    assert!(matches!(other.extend(&[extension("mutex", 2)]).await[0], Ok(Extended::Queued(_))));
    assert_eq!(one.inspect(&key("mutex", 1).resource).await.unwrap().queue.len(), 1);
    assert_eq!(one.list(&ListFilter::default()).await.unwrap().entries.len(), 1);
    release(&one, "mutex", 1).await;
    events.next().await.unwrap();
    assert_eq!(one.break_leases(&key("mutex", 2).resource).await.unwrap(), 1);

    let share = Share::new(1, 2).unwrap();
    let batch = ["a", "b"].map(|name| claim(name, 3, share, IfBusy::Refuse));
    assert!(one.acquire(&batch).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    let batch = ["a", "b"].map(|name| extension(name, 3));
    assert!(one.extend(&batch).await.iter().all(|answer| matches!(answer, Ok(Extended::Held(_)))));
    assert!(one.release(&batch.map(|extension| extension.key.into())).await.iter().all(Result::is_ok));
    one.examine().await.unwrap();
    server.wait_for("SELECT count(*) FROM rlock.locks", "0").await; // the sweep
}
