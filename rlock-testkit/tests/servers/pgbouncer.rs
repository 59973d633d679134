//! Tests of PgBouncer, a program of this machine, in front of Postgres servers.

use std::time::{Duration, Instant};

use rlock_testkit::faults::{Control, Data};
use rlock_testkit::servers::{PgBouncer, PgWire, Postgres};

use super::postgres::{is_timeout, some};
use super::refuses;

#[test]
fn a_pooler_starts_and_leads_to_its_server() {
    let postgres = Postgres::start_with(&[]);
    let begun = Instant::now();
    let pooler = PgBouncer::start(postgres.url());
    println!("it is at {}, after {:?}", pooler.url(), begun.elapsed());
    assert_ne!(pooler.url(), postgres.url());
    let mut wire = PgWire::connect(pooler.url()).unwrap();
    wire.query("CREATE TABLE t (n int); INSERT INTO t VALUES (7)").unwrap();
    assert_eq!(wire.query("SELECT * FROM t").unwrap(), [[some("7")]]);
    assert_eq!(postgres.query("SELECT * FROM t"), [[some("7")]]);
}

#[test]
fn client_has_a_session_for_one_transaction() {
    let postgres = Postgres::start_with(&[]);
    let pooler = PgBouncer::start(postgres.url());
    let [mut one, mut other] = [(); 2].map(|()| PgWire::connect(pooler.url()).unwrap());
    one.query("SET lock_timeout = '7s'").unwrap();
    assert_eq!(other.query("BEGIN; SHOW lock_timeout").unwrap(), [[some("7s")]], "both had the same session");
    assert_eq!(one.query("SHOW lock_timeout").unwrap(), [[some("0")]], "the other has it for its transaction");
    other.query("COMMIT").unwrap();
}

#[tokio::test]
async fn paused_pooler_is_silent_until_resumed() {
    let postgres = Postgres::start_with(&[]);
    let pooler = PgBouncer::start(postgres.url());
    let wire = PgWire::connect(pooler.url()).unwrap();
    let mut wire = wire.within(Duration::from_millis(300)).unwrap();
    assert_eq!(wire.query("SELECT 1").unwrap(), [[some("1")]]);
    pooler.pause().await;
    assert!(is_timeout(&wire.query("SELECT 1").unwrap_err()));
    pooler.resume().await;
    let mut wire = PgWire::connect(pooler.url()).unwrap();
    assert_eq!(wire.query("SELECT 1").unwrap(), [[some("1")]]);
}

#[tokio::test]
async fn pooler_and_its_server_can_be_restarted() {
    let postgres = Postgres::start_with(&[]);
    let pooler = PgBouncer::start(postgres.url());
    let url = pooler.url().to_owned();
    let ask = || PgWire::connect(&url).and_then(|mut wire| wire.query("SELECT 1"));
    ask().unwrap();
    for data in [Data::Kept, Data::Lost] {
        pooler.kill().await;
        refuses(&url);
        pooler.restart(data).await;
        assert_eq!(ask().unwrap(), [[some("1")]]);
    }

    postgres.kill().await;
    pooler.restart(Data::Kept).await; // it becomes ready without a server
    postgres.restart(Data::Kept).await;
    let begun = Instant::now();
    while let Err(error) = ask() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("it found its server after {:?}", begun.elapsed());
    drop(pooler);
    refuses(&url);
}

#[test]
#[should_panic(expected = "not a postgres://host URL")]
fn a_pooler_leads_to_postgres_only() {
    PgBouncer::start("redis://127.0.0.1:6379");
}
