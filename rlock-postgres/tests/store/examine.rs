//! What `rlock check` finds out about a server.

use rlock_core::{Backend as _, Finding, Verdict};
use rlock_postgres::PostgresBackend;
use rlock_testkit::servers::Postgres;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

use crate::support::{Endpoint, Server};

/// The findings on a subject.
async fn findings(client: &PostgresBackend, subject: &str) -> Vec<Finding> {
    let all = client.examine().await.unwrap();
    all.into_iter().filter(|finding| finding.subject == subject).collect()
}

/// The only finding on a subject.
async fn finding(client: &PostgresBackend, subject: &str) -> Finding {
    let mut found = findings(client, subject).await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// The findings about old versions of rows.
async fn vacuum(client: &PostgresBackend) -> String {
    findings(client, "vacuum").await.into_iter().map(|finding| finding.text + "\n").collect()
}

/// Opens a session, and returns it with the number of its process.
async fn session(server: &Server) -> (PgConnection, i32) {
    let mut session = PgConnection::connect(server.0.url()).await.unwrap();
    let process = session.fetch_one("SELECT pg_backend_pid()").await.unwrap().get(0);
    (session, process)
}

/// A reader with a snapshot, a writer without one, and a prepared transaction.
#[tokio::test]
async fn what_holds_back_vacuum_is_reported() {
    let (server, clock) = Server::start_with_clock_and(&["-c", "max_prepared_transactions=2"]).await;
    let client = server.client().await;
    server.query("CREATE TABLE public.jobs (number integer)");
    assert!(vacuum(&client).await.contains("nothing keeps dead versions"));
    server.query("BEGIN; INSERT INTO public.jobs VALUES (1); PREPARE TRANSACTION 'forgotten'");
    let (mut reading, reader) = session(&server).await;
    reading.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    let (mut writing, writer) = session(&server).await;
    writing.execute("BEGIN; INSERT INTO public.jobs VALUES (2)").await.unwrap();
    // They are not a minute old yet.
    assert!(vacuum(&client).await.contains("nothing keeps dead versions"));
    clock.set(&server, 3600);
    let text = vacuum(&client).await;
    let transaction = |process: i32| format!("a transaction of process {process} ");
    for words in [transaction(reader), transaction(writer), "the prepared transaction forgotten".to_owned()] {
        assert!(text.contains(&words), "{words} in {text}");
    }
}

/// A standby reports the snapshot of its reader, at first by itself and then by a slot.
#[tokio::test]
async fn old_snapshots_of_standbys_are_reported() {
    const FEEDBACK: &str = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE backend_xmin IS NOT NULL)";
    let primary = Server::with_tables(Postgres::start_program(&[], &[])).await;
    let client = primary.client().await;
    let standby = Server(Postgres::start_standby(primary.0.url()));
    let set = |setting: &str| {
        standby.query(&format!("ALTER SYSTEM SET {setting}"));
        standby.query("SELECT pg_reload_conf()");
    };
    set("wal_receiver_status_interval = '1s'");
    set("hot_standby_feedback = on");
    primary.wait_for(FEEDBACK, "t").await;
    let (mut reading, _) = session(&standby).await;
    reading.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    assert!(vacuum(&client).await.contains("nothing keeps dead versions"));
    primary.query("DO $$ BEGIN FOR i IN 1 .. 10100 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$");
    // A snapshot from before the loop, which the standby has reported since.
    primary.wait_for("SELECT EXISTS (SELECT FROM pg_stat_replication WHERE age(backend_xmin) > 10000)", "t").await;
    let text = vacuum(&client).await;
    assert!(text.contains("the standby walreceiver reports an old snapshot"), "{text}");

    primary.query("SELECT pg_create_physical_replication_slot('forgotten')");
    set("primary_slot_name = 'forgotten'");
    primary.wait_for("SELECT EXISTS (SELECT FROM pg_replication_slots WHERE age(xmin) > 10000)", "t").await;
    drop((reading, standby));
    let text = vacuum(&client).await;
    assert!(text.contains("the replication slot forgotten has an old snapshot"), "{text}");
}

#[tokio::test]
async fn unflushed_grants_are_a_risk() {
    let server = Server::start_with(&["-c", "fsync=on"]).await;
    assert_eq!(finding(&server.client().await, "durability").await.verdict, Verdict::Good);
    server.query("ALTER ROLE postgres SET synchronous_commit = off");
    let found = finding(&server.client().await, "durability").await;
    assert!(found.verdict == Verdict::Risk && found.text.contains("synchronous_commit is off"), "{found:?}");
}

#[tokio::test]
async fn missing_notifications_are_noted() {
    let server = Server::start().await;
    let pooler = Endpoint::pooled(server.0.url());
    let pooled = PostgresBackend::connect(server.config_of(pooler.url())).await.unwrap();
    assert_eq!(finding(&server.client().await, "notifications").await.verdict, Verdict::Good);
    let found = finding(&pooled, "notifications").await;
    assert!(found.verdict == Verdict::Note && found.text.contains("waiters poll"), "{found:?}");
    server.fill_notification_queue();
    let found = finding(&server.client().await, "notifications").await;
    assert!(found.verdict == Verdict::Note && found.text.contains("95 %"), "{found:?}");
}
