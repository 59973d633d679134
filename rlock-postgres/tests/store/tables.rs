//! The tables: the roles that create them, and the programs that use them.

use rlock_core::{Acquired, Backend as _, IfBusy, Share};
use rlock_postgres::{ConnectError, PostgresBackend};
use rlock_testkit::servers::Postgres;

use crate::support::{Server, claim, release};

#[tokio::test]
async fn missing_procedure_is_made_again() {
    let server = Server::start().await;
    for procedure in ["change_1", "change_free_1"] {
        server.query(&format!("DROP PROCEDURE rlock.{procedure}"));
        let client = server.client().await;
        let claim = claim(procedure, 1, Share::EXCLUSIVE, IfBusy::Refuse);
        assert!(matches!(client.acquire(&[claim]).await[0], Ok(Acquired::Held(_))), "without {procedure}");
    }
}

#[tokio::test]
async fn the_first_clients_make_the_tables() {
    let server = Server(Postgres::start_with(&["-c", "fsync=off"]));
    let connect = |config| async move { PostgresBackend::connect(config).await };
    let connecting: Vec<_> = (0..8).map(|_| tokio::spawn(connect(server.config()))).collect();
    for (id, client) in connecting.into_iter().enumerate() {
        let client = client.await.unwrap().unwrap();
        let answer = client.acquire(&[claim("x", id as u128, Share::EXCLUSIVE, IfBusy::Refuse)]).await.remove(0);
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
        release(&client, "x", id as u128).await;
    }
}

#[tokio::test]
async fn role_without_rights_learns_what_it_needs() {
    let server = Server(Postgres::start_with(&["-c", "fsync=off"]));
    server.query("CREATE ROLE jobs LOGIN");
    let url = server.0.url().replace("//postgres@", "//jobs@");
    let refused = PostgresBackend::connect(server.config_of(&url)).await.unwrap_err();
    let message = refused.to_string();
    assert!(matches!(refused, ConnectError::Rejected(_)), "{message}");
    for remedy in ["`rlock schema`", "GRANT USAGE ON SCHEMA rlock", "CREATE on the database"] {
        assert!(message.contains(remedy), "{message}");
    }
    let refused = PostgresBackend::connect(server.config().without_creating()).await.unwrap_err();
    assert!(refused.to_string().contains("create them by `rlock schema`"), "{refused}");
}

#[tokio::test]
async fn role_needs_no_right_to_create() {
    let server = Server(Postgres::start_with(&["-c", "fsync=off"]));
    server.query("CREATE ROLE owner LOGIN; CREATE SCHEMA rlock AUTHORIZATION owner");
    let url = server.0.url().replace("//postgres@", "//owner@");
    // It owns the schema, and may not create others.
    PostgresBackend::connect(server.config_of(&url)).await.unwrap();
}

/// An older build made the tables, and a newer one has added a column and procedures of its own.
#[tokio::test]
async fn two_builds_work_on_the_same_tables() {
    let server = Server(Postgres::start_with(&["-c", "fsync=off"]));
    server.query(include_str!("sql/first.sql"));
    let refused = PostgresBackend::connect(server.config().without_creating()).await.unwrap_err();
    assert!(refused.to_string().contains("lacks the procedures of this version"), "{refused}");
    let client = server.client().await;
    server.query(
        "ALTER TABLE rlock.locks ADD COLUMN more text; ALTER TABLE rlock.leases ADD COLUMN more text DEFAULT 'x'; \
         ALTER TABLE rlock.state ADD COLUMN more text",
    );
    let queued = |id| claim("x", id, Share::new(1, 2).unwrap(), IfBusy::Queue);
    assert!(matches!(client.acquire(&[queued(1)]).await[0], Ok(Acquired::Held(_))));
    let old = |verb: u8, id: u8| {
        let answers = server.query(&format!(
            "CALL rlock.change_0(false, 'rlock', 0, 9223372036854775807, 'rlock_old', '{{{verb}}}', '{{x}}', \
             '{{00000000-0000-0000-0000-00000000000{id}}}', '{{{}}}', '{{1}}', '{{2}}', '{{old}}', ARRAY[NULL]::bytea[], \
             NULL, NULL, NULL, NULL, NULL)",
            if verb == 2 { 0 } else { 30_000_000 }
        ));
        answers[0][0].clone().unwrap()
    };
    assert_eq!(old(3, 2), "{1}", "the second permit is free");
    assert!(matches!(client.acquire(&[queued(3)]).await[0], Ok(Acquired::Queued(_))));
    assert_eq!(old(2, 2), "{6}", "it is released, and the waiter of the other build gets it");
    release(&client, "x", 3).await;
    release(&client, "x", 1).await;
}

#[tokio::test]
async fn tables_of_another_version_are_left_alone() {
    let server = Server::start().await;
    for (version, remedy) in [(1, "drop the schema"), (9, "upgrade this program")] {
        server.query(&format!("UPDATE rlock.state SET version = {version}"));
        let refused = PostgresBackend::connect(server.config()).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Rejected(_)), "{refused}");
        assert!(refused.to_string().contains(remedy), "{refused}");
    }
}
