//! What a lock costs beside the updates that it cannot do without, side by side on one server.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rlock_core::{Client, ResourceName};
use rlock_postgres::{PostgresBackend, PostgresConfig};
use rlock_testkit::measure::{cycle, hand_over, median, ratio, timed};
use rlock_testkit::servers::Postgres;
use sqlx::postgres::{PgConnection, PgListener, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Executor};
use tokio::runtime::Handle;

const CYCLES: usize = 4_000;
const TASKS: usize = 64;
const CYCLES_OF_A_TASK: usize = 40;
const TABLE: &str = "CREATE TABLE bare (name text PRIMARY KEY, value text) WITH (fillfactor = 50); INSERT INTO bare \
                     SELECT name, repeat('x', 100) FROM (SELECT 'bare' AS name UNION SELECT 'task/' || n FROM \
                     generate_series(0, 63) AS n) AS names";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = Postgres::start_durable();
    let config = PostgresConfig::from_url(server.url()).expect("a good URL");
    PostgresBackend::ensure_schema(&config).await.expect("a superuser can make tables");
    let builder = Client::builder().runtime(Handle::current());
    let here = builder.connect(PostgresBackend::connect(config.clone())).await.expect("Postgres can be reached");
    let own =
        Client::builder().connect(PostgresBackend::connect(config.clone())).await.expect("Postgres can be reached");
    let mut bare = PgConnection::connect(server.url()).await.expect("Postgres can be reached");
    bare.execute(TABLE).await.expect("a superuser can make tables");

    let (mut bares, mut heres, mut owns) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..CYCLES {
        bares.push(timed(two_updates(&mut bare, "bare")).await);
        heres.push(timed(cycle(&here, "here")).await);
        owns.push(timed(cycle(&own, "own")).await);
        if number == CYCLES / 10 {
            [&mut bares, &mut heres, &mut owns].into_iter().for_each(Vec::clear); // so far it was warming up
        }
    }
    let (bare_half, here_half, own_half) = (median(bares), median(heres), median(owns));
    println!("two bare updates                   {bare_half:?} at the median");
    println!("lock + unlock, caller's runtime    {here_half:?}, {:.2} x", ratio(here_half, bare_half));
    println!("lock + unlock, a thread of its own {own_half:?}, {:.2} x", ratio(own_half, bare_half));

    let before = flushes(&server, &here).await;
    for _ in 0..100 {
        cycle(&here, "counted").await;
    }
    println!("flushes of the log a cycle         {}", (flushes(&server, &here).await - before) as f64 / 100.0);

    let other = Client::builder().connect(PostgresBackend::connect(config)).await.expect("Postgres can be reached");
    let (mut hand_overs, mut signals) = (Vec::new(), Vec::new());
    let mut listener = PgListener::connect(server.url()).await.expect("Postgres can be reached");
    listener.listen("bare").await.expect("anybody may listen");
    for _ in 0..CYCLES / 4 {
        hand_overs.push(hand_over(&own, &other).await);
        let begun = Instant::now();
        update(&mut bare, "bare").await;
        bare.execute("NOTIFY bare").await.expect("anybody may");
        listener.recv().await.expect("it is told");
        signals.push(begun.elapsed());
    }
    let (hand_over, signal) = (median(hand_overs), median(signals));
    println!("a bare update, and its NOTIFY      {signal:?} until it is heard");
    println!("unlock to lock of another client   {hand_over:?}, {:.2} x", ratio(hand_over, signal));

    let pool = PgPoolOptions::new().max_connections(4).connect(server.url()).await.expect("Postgres can be reached");
    for _ in 0..3 {
        let names: Vec<_> = (0..TASKS).map(|task| format!("task/{task}")).collect();
        let bare_time = timed(join_all(names.iter().map(|name| times(|| updates_of(&pool, name))))).await;
        let before = flushes(&server, &here).await;
        let here_time = timed(join_all(names.iter().map(|name| times(|| cycle(&here, name))))).await;
        let cycles = (TASKS * CYCLES_OF_A_TASK) as f64;
        let flushed = (flushes(&server, &here).await - before) as f64 / cycles;
        let per_second = |time: Duration| cycles / time.as_secs_f64();
        println!(
            "{TASKS} tasks: {:.0} cycles/s bare, {:.0} with locks ({:.2} x), {flushed:.2} flushes a cycle",
            per_second(bare_time),
            per_second(here_time),
            ratio(bare_time, here_time)
        );
    }
}

async fn times<F: Future<Output = ()>>(mut cycle: impl FnMut() -> F) {
    for _ in 0..CYCLES_OF_A_TASK {
        cycle().await;
    }
}

async fn updates_of(pool: &PgPool, name: &str) {
    update(pool, name).await;
    update(pool, name).await;
}

async fn two_updates(conn: &mut PgConnection, name: &str) {
    update(&mut *conn, name).await;
    update(conn, name).await;
}

async fn update<'c>(executor: impl Executor<'c, Database = sqlx::Postgres>, name: &str) {
    let update = sqlx::query("UPDATE bare SET value = $2 WHERE name = $1").bind(name).bind("x".repeat(100));
    assert_eq!(update.execute(executor).await.expect("Postgres answers").rows_affected(), 1);
}

/// How many times the server has flushed its log. Sessions tell that when they have something to do, once a second.
async fn flushes(server: &Postgres, client: &Client) -> u64 {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    join_all((0..TASKS).map(|_| async { client.inspect(&ResourceName::new("none").expect("a good name")).await }))
        .await;
    let rows = server.query("SELECT wal_sync FROM pg_stat_wal");
    rows[0][0].as_deref().and_then(|count| count.parse().ok()).expect("a count")
}
