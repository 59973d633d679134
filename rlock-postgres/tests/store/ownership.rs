//! Tables that an untrusted role made, or may create triggers on, are refused before its code runs.

use rlock_core::{Acquired, Backend as _, IfBusy, Share};
use rlock_postgres::{ConnectError, PostgresBackend, PostgresConfig};
use rlock_testkit::faults::Proxy;
use rlock_testkit::servers::{PgBouncer, PgWire, Postgres};

use crate::support::{Server, claim, release};

/// Creates rlock's tables in the schema `{}`, with triggers, as an untrusted role.
const PLANT: &str = "
    CREATE TABLE {}.locks (LIKE rlock.locks INCLUDING ALL);
    CREATE TABLE {}.leases (LIKE rlock.leases INCLUDING ALL);
    CREATE TABLE {}.mail (LIKE rlock.mail INCLUDING ALL);
    CREATE TABLE {}.state (LIKE rlock.state INCLUDING ALL);
    INSERT INTO {}.state VALUES (1, 2, 1, 1, 1);
    CREATE FUNCTION {}.spring() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'planted code runs as %', current_user; END $$;
    CREATE TRIGGER trap BEFORE INSERT OR UPDATE ON {}.locks EXECUTE FUNCTION {}.spring();
    CREATE TRIGGER trap BEFORE INSERT OR UPDATE ON {}.state EXECUTE FUNCTION {}.spring();
    GRANT ALL ON ALL TABLES IN SCHEMA {} TO PUBLIC;
    REVOKE TRIGGER ON ALL TABLES IN SCHEMA {} FROM PUBLIC;
    GRANT USAGE ON SCHEMA {} TO PUBLIC";

#[tokio::test]
async fn tables_planted_before_a_revoke_are_refused() {
    let server = with_planter().await;
    server.query("GRANT CREATE ON SCHEMA public TO PUBLIC; GRANT ALL ON SCHEMA public TO planter WITH GRANT OPTION");
    query_as("planter", &server, &PLANT.replace("{}", "public")).unwrap();
    server.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    assert_refused(&server, "public", "the table public.leases belongs to the role planter").await;
}

#[tokio::test]
async fn schemas_planted_with_tables_are_refused() {
    let server = with_planter().await;
    server.query("GRANT CREATE ON DATABASE postgres TO planter");
    let plant = format!("CREATE SCHEMA planted; {PLANT}");
    query_as("planter", &server, &plant.replace("{}", "planted")).unwrap();
    assert_refused(&server, "planted", "the schema planted belongs to the role planter").await;
}

#[tokio::test]
async fn empty_schemas_of_other_roles_get_no_tables() {
    let server = with_planter().await;
    server.query("GRANT CREATE ON DATABASE postgres TO planter");
    query_as("planter", &server, "CREATE SCHEMA empty").unwrap();
    assert_not_made(&server, "empty", "the schema empty belongs to the role planter").await;
    assert_eq!(server.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'empty'"), 0);
}

#[tokio::test]
async fn each_object_of_another_role_is_refused() {
    let server = with_planter().await;
    let procedures = "SELECT proname FROM pg_proc WHERE pronamespace = 'rlock'::regnamespace";
    let procedures = query_as("postgres", &server, procedures).unwrap().into_iter().flatten().flatten();
    let procedures: Vec<_> = procedures.map(|name| format!("procedure rlock.{name}")).collect();
    assert!(!procedures.is_empty());
    let tables = ["locks", "leases", "mail", "state"].map(|name| format!("table rlock.{name}"));
    for object in procedures.into_iter().chain(tables).chain(["schema rlock".to_owned()]) {
        server.query(&format!("ALTER {object} OWNER TO planter"));
        if object.starts_with("table") {
            server.query(&format!("REVOKE TRIGGER ON {object} FROM planter")); // which an owner can take back
        }
        let refused = connect(&server, "jobs", "rlock").await.unwrap_err().to_string();
        assert!(refused.contains(&format!("the {object} belongs to the role planter")), "{refused}");
        server.query(&format!("ALTER {object} OWNER TO postgres"));
        connect(&server, "jobs", "rlock").await.unwrap();
    }
}

#[tokio::test]
async fn rights_and_triggers_of_trusted_roles_are_no_reason() {
    let server = with_planter().await;
    server.query(
        "GRANT ALL ON ALL TABLES IN SCHEMA rlock TO jobs; \
         CREATE FUNCTION rlock.audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
         CREATE TRIGGER audit AFTER INSERT ON rlock.locks EXECUTE FUNCTION rlock.audit()",
    );
    let proxy = Proxy::in_front_of(server.0.url());
    PostgresBackend::connect(server.config_of(&url_of("jobs", proxy.url()))).await.unwrap();
    assert!(proxy.round_trips() <= 4, "the search for a fault takes another one, and logs an error on the server");
    server.query("GRANT TRIGGER ON rlock.mail TO PUBLIC");
    let refused = connect(&server, "jobs", "rlock").await.unwrap_err().to_string();
    assert!(refused.contains("every role may create triggers on the table rlock.mail"), "{refused}");
}

#[tokio::test]
async fn triggers_of_other_roles_are_refused() {
    let server = with_planter().await;
    server.query("GRANT TRIGGER ON rlock.locks TO planter; GRANT CREATE ON SCHEMA public TO planter");
    for who in ["jobs", "postgres"] {
        let error = connect(&server, who, "rlock").await.unwrap_err().to_string();
        assert!(error.contains("the role planter may create triggers on the table rlock.locks"), "{error}");
        assert!(error.contains("REVOKE TRIGGER ON \"rlock\".locks FROM planter"), "{error}");
    }
    let plant = "CREATE FUNCTION public.spring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$; \
                 CREATE TRIGGER trap BEFORE INSERT ON rlock.locks EXECUTE FUNCTION public.spring()";
    query_as("planter", &server, plant).unwrap();
    server.query("REVOKE TRIGGER ON rlock.locks FROM planter");
    for who in ["jobs", "postgres"] {
        let error = connect(&server, who, "rlock").await.unwrap_err().to_string();
        assert!(
            error.contains("the trigger trap on the table rlock.locks runs a function of the role planter"),
            "{error}"
        );
    }
    server.query("DROP TRIGGER trap ON rlock.locks");
    connect(&server, "jobs", "rlock").await.unwrap();
}

#[tokio::test]
async fn default_privileges_for_triggers_are_refused() {
    let server = with_planter().await;
    server.query("ALTER DEFAULT PRIVILEGES GRANT TRIGGER ON TABLES TO PUBLIC");
    assert_not_made(&server, "fresh", "every role may create triggers on the table fresh.leases").await;
    assert_eq!(server.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'fresh'"), 0);
    server.query("ALTER DEFAULT PRIVILEGES REVOKE TRIGGER ON TABLES FROM PUBLIC");
    PostgresBackend::ensure_schema(&server.config().schema("fresh").unwrap()).await.unwrap();
}

#[tokio::test]
async fn tables_of_trusted_roles_are_used() {
    let server = with_planter().await;
    server.query(
        "CREATE ROLE owner LOGIN; CREATE ROLE deputy LOGIN; GRANT owner TO deputy; \
         ALTER DATABASE postgres OWNER TO owner; CREATE ROLE maker LOGIN; \
         GRANT CREATE ON DATABASE postgres TO deputy, maker",
    );
    for maker in ["owner", "deputy", "maker", "postgres"] {
        let schema = format!("of_{maker}");
        let by = |role: &str| config(&server, role, &schema);
        PostgresBackend::ensure_schema(&by(maker)).await.unwrap();
        query_as(maker, &server, &PostgresBackend::schema_sql(&by(maker))).unwrap();
        use_locks(&by(maker)).await;
        query_as(
            maker,
            &server,
            &format!(
                "GRANT USAGE ON SCHEMA {schema} TO jobs; \
                 GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO jobs"
            ),
        )
        .unwrap();
        let pooler = PgBouncer::start(&url_of("jobs", server.0.url()));
        for used in [by("jobs"), server.config_of(pooler.url()).schema(&schema).unwrap()] {
            if maker == "maker" {
                let refused = PostgresBackend::connect(used).await.unwrap_err().to_string();
                assert!(refused.contains("the schema of_maker belongs to the role maker"), "{refused}");
                assert!(refused.contains("drop it if you did not make it"), "{refused}");
            } else {
                PostgresBackend::ensure_schema(&used).await.unwrap();
                use_locks(&used).await;
            }
        }
    }
}

/// psql with ON_ERROR_ROLLBACK sets a savepoint before each statement, and goes back to it when the statement fails.
#[tokio::test]
async fn psql_that_skips_errors_makes_no_tables() {
    let server = Server(Postgres::start_with(&["-c", "fsync=off"]));
    server.query("GRANT CREATE ON SCHEMA public TO PUBLIC");
    let mut psql = PgWire::connect(server.0.url()).unwrap();
    let text = PostgresBackend::schema_sql(&server.config().schema("public").unwrap());
    let mut errors = Vec::new();
    for statement in statements(&text) {
        let is_saved = psql.query("SAVEPOINT psql").is_ok();
        let outcome = psql.query(statement);
        if is_saved {
            let _no_transaction = psql.query(if outcome.is_ok() { "RELEASE psql" } else { "ROLLBACK TO psql" });
        }
        errors.extend(outcome.err().map(|error| error.to_string()));
    }
    assert!(errors.concat().contains("every role may create objects in the schema public"), "{errors:?}");
    assert_eq!(server.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), 0);
}

/// A server with rlock's tables, a role that may use them, and one that may read them.
async fn with_planter() -> Server {
    let server = Server::start().await;
    server.query(
        "CREATE ROLE jobs LOGIN; CREATE ROLE planter LOGIN; GRANT USAGE ON SCHEMA rlock TO jobs, planter; \
         GRANT SELECT ON ALL TABLES IN SCHEMA rlock TO planter; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rlock TO jobs",
    );
    server
}

fn config(server: &Server, role: &str, schema: &str) -> PostgresConfig {
    server.config_of(&url_of(role, server.0.url())).schema(schema).unwrap()
}

async fn connect(server: &Server, role: &str, schema: &str) -> Result<PostgresBackend, ConnectError> {
    PostgresBackend::connect(config(server, role, schema)).await
}

fn url_of(role: &str, url: &str) -> String {
    url.replace("//postgres@", &format!("//{role}@"))
}

fn query_as(role: &str, server: &Server, sql: &str) -> std::io::Result<Vec<Vec<Option<String>>>> {
    PgWire::connect(&url_of(role, server.0.url())).and_then(|mut wire| wire.query(sql))
}

/// Asserts that planted tables can neither be used nor completed, and that their triggers would have run.
async fn assert_refused(server: &Server, schema: &str, reason: &str) {
    assert_not_made(server, schema, reason).await;
    for role in ["jobs", "postgres"] {
        let pooler = PgBouncer::start(&url_of(role, server.0.url()));
        let pooled = server.config_of(pooler.url()).schema(schema).unwrap();
        for used in [config(server, role, schema), pooled] {
            let refused = PostgresBackend::connect(used).await.unwrap_err();
            let message = refused.to_string();
            assert!(matches!(refused, ConnectError::Rejected(_)), "{message}");
            assert!(message.contains(reason) && message.contains("drop it if you did not make it"), "{message}");
        }
    }
    for table in ["locks", "state"] {
        let mut wire = PgWire::connect(server.0.url()).unwrap();
        let sprung = wire.query(&format!("INSERT INTO {schema}.{table} SELECT * FROM {schema}.{table}")).unwrap_err();
        assert!(sprung.to_string().contains("planted code runs as postgres"), "{sprung}");
    }
}

/// Asserts that neither the library nor psql creates tables in the schema.
async fn assert_not_made(server: &Server, schema: &str, reason: &str) {
    let config = config(server, "postgres", schema);
    let refused = PostgresBackend::ensure_schema(&config).await.unwrap_err();
    let message = refused.to_string();
    assert!(matches!(refused, ConnectError::Rejected(_)) && message.contains(reason), "{message}");
    let refused = query_as("postgres", server, &PostgresBackend::schema_sql(&config)).unwrap_err().to_string();
    assert!(refused.contains(reason), "{refused}");
}

async fn use_locks(config: &PostgresConfig) {
    let backend = PostgresBackend::connect(config.clone()).await.unwrap();
    let answer = backend.acquire(&[claim("x", 1, Share::EXCLUSIVE, IfBusy::Refuse)]).await.remove(0);
    assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
    release(&backend, "x", 1).await;
}

/// The statements of a text, as psql finds them: up to each semicolon outside of quotes and comments.
fn statements(text: &str) -> Vec<&str> {
    let (mut found, mut start, mut at) = (Vec::new(), 0, 0);
    while at < text.len() {
        let rest = &text[at..];
        let end_of = |opening: usize, closing: &str| {
            let length = rest[opening..].find(closing).expect("what is opened is closed");
            opening + length + closing.len()
        };
        at += match rest.as_bytes()[0] {
            b'-' if rest.starts_with("--") => end_of(2, "\n"),
            b'\'' => end_of(1, "'"),
            b'"' => end_of(1, "\""),
            b'$' => {
                let tag = end_of(1, "$");
                end_of(tag, &rest[..tag])
            }
            byte => {
                let next = if byte.is_ascii() { 1 } else { rest.chars().next().map_or(1, char::len_utf8) };
                if byte == b';' {
                    found.push(&text[start..=at]);
                    start = at + 1;
                }
                next
            }
        };
    }
    assert!(text[start..].trim().is_empty(), "the text ends with a statement");
    found
}
