//! What a lock in a file costs beside the writes that it cannot do without, how soon a waiter notices, what waiting costs,
//! and how writers share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rlock_core::{Client, ClientBuilder, SimpleLock};
use rlock_sqlite::{SqliteBackend, SqliteConfig};
use rlock_testkit::measure::{cycle, hand_over, median, ratio, timed};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Executor as _};
use tokio::runtime::Handle;

const CYCLES: usize = 4_000;
const WRITERS: usize = 8;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = tempfile::tempdir().expect("the system has a place for temporary files");
    let path = folder.path().join("locks.db");
    let config = SqliteConfig::at(&path).expect("a good path");
    let client = async |builder: ClientBuilder| {
        builder.connect(SqliteBackend::connect(config.clone())).await.expect("it can be opened")
    };
    let here = client(Client::builder().runtime(Handle::current())).await;
    let (own, other) = (client(Client::builder()).await, client(Client::builder()).await);

    let mut bare = SqliteConnectOptions::new()
        .filename(folder.path().join("bare.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .connect()
        .await
        .expect("it can be opened");
    bare.execute("CREATE TABLE bare (name TEXT PRIMARY KEY, value TEXT)").await.expect("it is new");
    let (mut bares, mut heres, mut owns) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CYCLES {
        bares.push(timed(two_writes(&mut bare)).await);
        heres.push(timed(cycle(&here, "here")).await);
        owns.push(timed(cycle(&own, "own")).await);
    }
    let (bare, here, own_cycle) = (median(bares), median(heres), median(owns));
    println!("an insert and a delete, bare       {bare:?} at the median");
    println!("lock + unlock, caller's runtime    {here:?}, {:.2} x", ratio(here, bare));
    println!("lock + unlock, a thread of its own {own_cycle:?}, {:.2} x", ratio(own_cycle, bare));

    let mut hand_overs = Vec::new();
    for _ in 0..200 {
        hand_overs.push(hand_over(&own, &other).await);
    }
    hand_overs.sort_unstable();
    println!("unlock to lock of another client   {:?} at the median, {:?} at most", hand_overs[100], hand_overs[199]);

    let guard = SimpleLock::new("held", &own).expect("a good name").lock().await.expect("it is free");
    let waiting = tokio::spawn(lock(other.clone(), "held"));
    while own.inspect(guard.resource()).await.expect("it can be read").queue.is_empty() {}
    let (before, begun) = (cpu(), Instant::now());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let share = (cpu() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    println!("one holder and one waiter, idle    {:.2} % of a core", 100.0 * share);
    guard.unlock().await.expect("it is held");
    waiting.await.expect("it does not panic").unlock().await.expect("it is held");

    let (counts, is_over) = ([const { AtomicU64::new(0) }; WRITERS], AtomicBool::new(false));
    let mut clients = Vec::new();
    for _ in 0..WRITERS {
        clients.push(client(Client::builder()).await);
    }
    let slowest = AtomicU64::new(0);
    let writers = clients.iter().zip(&counts).enumerate().map(async |(number, (client, count))| {
        while !is_over.load(Ordering::Relaxed) {
            let took = timed(cycle(client, &format!("writer/{number}"))).await;
            slowest.fetch_max(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let stop = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(futures_util::future::join_all(writers), stop);
    let counts = counts.map(AtomicU64::into_inner);
    let total: u64 = counts.iter().sum();
    let (least, most) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
    println!(
        "{WRITERS} clients, names of their own      {} cycles/s, from {least} to {most} each, the slowest cycle {:?}",
        total / 3,
        Duration::from_micros(slowest.into_inner())
    );
}

async fn two_writes(conn: &mut SqliteConnection) {
    let insert = sqlx::query("INSERT INTO bare VALUES (?, ?)").bind("bare").bind("x".repeat(100));
    insert.execute(&mut *conn).await.expect("it is not there");
    sqlx::query("DELETE FROM bare WHERE name = ?").bind("bare").execute(conn).await.expect("it is there");
}

async fn lock(client: Client, name: &'static str) -> rlock_core::Guard {
    SimpleLock::new(name, &client).expect("a good name").lock().await.expect("it can be had")
}

/// What this process has used so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells");
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number of ticks");
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
