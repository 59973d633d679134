//! The cost of a queue and of many holders.

use std::time::Duration;

use rlock_core::{Acquired, Backend as _, BackendError, Claim, Extended, Extension, IfBusy, Release, Share};
use rlock_postgres::PostgresBackend;
use rlock_testkit::wait::eventually;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::{Server, claim, key, release, ttl};

/// The number of rows of leases that were read by indexes.
const READ: &str = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'leases'";

/// Makes a lock with lease 0 as its holder, and a number of waiters.
async fn queue(client: &PostgresBackend, name: &str, waiters: u128) {
    let queued = |id| claim(name, id, Share::EXCLUSIVE, IfBusy::Queue);
    assert!(matches!(client.acquire(&[queued(0)]).await[0], Ok(Acquired::Held(_))));
    let all: Vec<_> = (1..=waiters).map(queued).collect();
    for some in all.chunks(64) {
        assert!(client.acquire(some).await.iter().all(|answer| matches!(answer, Ok(Acquired::Queued(_)))));
    }
}

/// The bytes that a join, a renewal and a hand-over write to the log, behind a number of waiters.
async fn costs(server: &Server, client: &PostgresBackend, waiters: u128) -> [i64; 3] {
    let name = format!("with {waiters}");
    let queued = |id| claim(&name, id, Share::EXCLUSIVE, IfBusy::Queue);
    queue(client, &name, waiters).await;
    server.query("CHECKPOINT");
    let mut least = [i64::MAX; 3];
    // The first change of a page after a checkpoint writes the whole page.
    for turn in 0..8 {
        let mut costs = [0; 3];
        let before = server.logged();
        assert!(matches!(client.acquire(&[queued(waiters + 1 + turn)]).await[0], Ok(Acquired::Queued(_))));
        costs[0] = server.logged() - before;
        let before = server.logged();
        let extension = Extension { key: key(&name, waiters), ttl: ttl(60_000) };
        assert!(matches!(client.extend(&[extension]).await[0], Ok(Extended::Queued(_))));
        costs[1] = server.logged() - before;
        let before = server.logged();
        release(client, &name, turn).await;
        costs[2] = server.logged() - before;
        least = [0, 1, 2].map(|at| least[at].min(costs[at]));
    }
    least
}

#[tokio::test]
async fn long_queue_writes_no_more_than_a_short() {
    let server = Server::start_with(&["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "autovacuum=off"]).await;
    let client = server.client().await;
    let few = costs(&server, &client, 10).await;
    let many = costs(&server, &client, 1_000).await;
    for (what, (few, many)) in ["a join", "a renewal", "a hand-over"].iter().zip(few.iter().zip(many)) {
        assert!(many <= few + few / 4 + 100, "{what} writes {many} bytes with 1,000 waiters, and {few} with 10");
    }
}

/// Otherwise the next claims and releases would look for them again.
#[tokio::test]
async fn expired_waiters_are_gone_after_a_release() {
    let server = Server::start().await;
    let client = server.client().await;
    queue(&client, "x", 2).await;
    server.query("UPDATE rlock.leases SET expires = 1");
    release(&client, "x", 0).await;
    assert_eq!(server.value("SELECT waiting FROM rlock.locks"), "0");
    assert_eq!(server.number("SELECT count(*) FROM rlock.leases"), 0);
}

/// The renewal of the next waiter may be under way, in a transaction with many others.
#[tokio::test]
async fn a_hand_over_waits_for_no_other_waiter() {
    let server = Server::start().await;
    let client = server.client().await;
    queue(&client, "x", 2).await;
    let mut renewing = PgConnection::connect(server.0.url()).await.unwrap();
    let lock = "SELECT FROM rlock.leases WHERE id = '00000000-0000-0000-0000-000000000002' FOR NO KEY UPDATE";
    renewing.execute("BEGIN").await.unwrap();
    assert!(renewing.fetch_optional(lock).await.unwrap().is_some());
    release(&client, "x", 0).await;
    renewing.execute("COMMIT").await.unwrap();
    for next in 1..=2 {
        release(&client, "x", next).await;
    }
}

/// The rows of waiters that some joins, renewals and hand-overs read by indexes, behind a number of waiters.
async fn reads(server: &Server, client: &PostgresBackend, waiters: u128) -> i64 {
    let name = format!("with {waiters}");
    queue(client, &name, waiters).await;
    server.wait_for_statistics(client).await;
    let before = server.number(READ);
    for turn in 0..8 {
        let joining = claim(&name, waiters + 1 + turn, Share::EXCLUSIVE, IfBusy::Queue);
        assert!(matches!(client.acquire(&[joining]).await[0], Ok(Acquired::Queued(_))));
        let extension = Extension { key: key(&name, waiters), ttl: ttl(60_000) };
        assert!(matches!(client.extend(&[extension]).await[0], Ok(Extended::Queued(_))));
        release(client, &name, turn).await;
    }
    server.wait_for_statistics(client).await;
    server.number(READ) - before
}

/// The tables have no statistics, as in a new database.
#[tokio::test]
async fn requests_in_a_long_queue_read_few_rows() {
    let server = Server::start_with(&["-c", "fsync=off", "-c", "autovacuum=off"]).await;
    let client = server.client().await;
    let few = reads(&server, &client, 20).await;
    let many = reads(&server, &client, 1_000).await;
    assert!(many <= few + few / 4, "{many} rows with 1,000 waiters, and {few} with 20");
}

/// A claim of one of `permits`.
fn permit(name: &str, id: u128, permits: u32, if_busy: IfBusy) -> Claim {
    Claim { ttl: ttl(600_000), ..claim(name, id, Share::new(1, permits).unwrap(), if_busy) }
}

/// Takes all permits of a semaphore, by leases from 0 on.
async fn hold_all(client: &PostgresBackend, name: &str, permits: u32) {
    let all: Vec<_> = (0..permits).map(|id| permit(name, id.into(), permits, IfBusy::Refuse)).collect();
    for some in all.chunks(64) {
        assert!(client.acquire(some).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    }
}

/// The rows that refused tries, before and behind waiters, and hand-overs read by indexes, beside a number of holders.
async fn reads_beside(server: &Server, client: &PostgresBackend, holders: u32) -> i64 {
    const TURNS: u128 = 8;
    let name = format!("beside {holders}");
    hold_all(client, &name, holders).await;
    let refused = permit(&name, 1_000_000, holders, IfBusy::Refuse);
    let is_refused = async || matches!(client.acquire(std::slice::from_ref(&refused)).await[0], Ok(Acquired::Busy));
    let read = async || {
        server.wait_for_statistics(client).await;
        server.number(READ)
    };
    let before = read().await;
    for _ in 0..TURNS {
        assert!(is_refused().await);
    }
    let tries = read().await - before;

    let waiters: Vec<_> = (1..=TURNS).map(|id| permit(&name, 2_000_000 + id, holders, IfBusy::Queue)).collect();
    assert!(client.acquire(&waiters).await.iter().all(|answer| matches!(answer, Ok(Acquired::Queued(_)))));
    let before = read().await;
    for turn in 0..TURNS {
        assert!(is_refused().await);
        release(client, &name, turn).await;
    }
    tries + read().await - before
}

#[tokio::test]
async fn tries_and_releases_read_few_of_many_holders() {
    let server = Server::start_with(&["-c", "fsync=off", "-c", "autovacuum=off"]).await;
    let client = server.client().await;
    let few = reads_beside(&server, &client, 20).await;
    let many = reads_beside(&server, &client, 1_000).await;
    assert!(many <= few + few / 4, "{many} rows beside 1,000 holders, and {few} beside 20");
}

/// The rows that the join and the renewals of the first waiter read by indexes, beside a number of holders.
async fn reads_of_the_first(server: &Server, client: &PostgresBackend, holders: u32) -> i64 {
    let name = format!("first beside {holders}");
    hold_all(client, &name, holders).await;
    server.wait_for_statistics(client).await;
    let before = server.number(READ);
    let first = permit(&name, 1_000_000, holders, IfBusy::Queue);
    let Ok(Acquired::Queued(place)) = client.acquire(&[first]).await.remove(0) else { panic!("there is no permit") };
    assert!(place.ahead == 0 && place.ask_again > Duration::from_secs(500), "{place:?}");
    for _ in 0..8 {
        let extension = Extension { key: key(&name, 1_000_000), ttl: ttl(600_000) };
        assert!(matches!(client.extend(&[extension]).await[0], Ok(Extended::Queued(_))));
    }
    server.wait_for_statistics(client).await;
    server.number(READ) - before
}

#[tokio::test]
async fn first_waiter_reads_few_of_many_holders() {
    let server = Server::start_with(&["-c", "fsync=off", "-c", "autovacuum=off"]).await;
    let client = server.client().await;
    let few = reads_of_the_first(&server, &client, 20).await;
    let many = reads_of_the_first(&server, &client, 1_000).await;
    assert!(many <= few + few / 4, "{many} rows beside 1,000 holders, and {few} beside 20");
}

#[tokio::test]
async fn one_try_counts_the_renewed_holders() {
    const IS_EXACT: &str = "SELECT l.soonest = q.expires FROM rlock.locks AS l JOIN rlock.leases AS q \
                            USING (namespace, name)";
    let server = Server::start().await;
    let client = server.client().await;
    for id in 1..=2 {
        client.acquire(&[permit("x", id, 2, IfBusy::Refuse)]).await.remove(0).unwrap();
    }
    assert_eq!(server.value(IS_EXACT), "t");
    // As if the second holder would have expired by now, without its renewals.
    server.query("UPDATE rlock.locks SET soonest = 1");
    assert!(matches!(client.acquire(&[permit("x", 3, 2, IfBusy::Refuse)]).await[0], Ok(Acquired::Busy)));
    assert_eq!(server.value(IS_EXACT), "t");
}

#[tokio::test]
async fn waiter_gets_a_permit_after_its_rest() {
    let server = Server::start().await;
    let client = server.client().await;
    for id in 1..=3 {
        client.acquire(&[permit("x", id, 2, IfBusy::Queue)]).await.remove(0).unwrap();
    }
    let release = Release { key: key("x", 2), rest: Duration::from_millis(100) };
    client.release(&[release]).await.remove(0).unwrap();
    let extension = Extension { key: key("x", 3), ttl: ttl(600_000) };
    let is_held = async || {
        let extended = client.extend(std::slice::from_ref(&extension)).await.remove(0).unwrap();
        matches!(extended, Extended::Held(_))
    };
    eventually(Duration::from_secs(20), "the grant after the rest", is_held).await;
}

/// Waiters renew their leases without the row of the resource, which the holder's renewals keep locked on a slow disk.
#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_waiters_survive_a_slow_disk() {
    let slow = ["-c", "fsync=on", "-c", "commit_delay=20000", "-c", "commit_siblings=0", "-c", "max_connections=120"];
    let server = Server::start_with(&slow).await;
    let brief = |id| Claim { ttl: ttl(3_000), ..claim("x", id, Share::EXCLUSIVE, IfBusy::Queue) };
    let holder = server.client().await;
    assert!(matches!(holder.acquire(&[brief(0)]).await[0], Ok(Acquired::Held(_))));
    let extension = |id| Extension { key: key("x", id), ttl: ttl(3_000) };
    // One client connects and joins at a time: the first request of a session plans all statements.
    let door = tokio::sync::Mutex::new(());
    let wait = async |number: u128| {
        let turn = door.lock().await;
        let client = PostgresBackend::connect(server.config().connections(1).unwrap()).await.unwrap();
        let ids = [1, 2, 3].map(|of| 3 * number + of);
        for answer in answered(async || client.acquire(&ids.map(brief)).await).await {
            assert!(matches!(answer, Acquired::Queued(_)), "{answer:?}");
        }
        drop(turn);
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for answer in answered(async || client.extend(&ids.map(extension)).await).await {
                assert!(matches!(answer, Extended::Queued(_)), "{answer:?}");
            }
        }
    };
    let hold = async {
        loop {
            tokio::time::sleep(Duration::from_millis(900)).await;
            let answer = answered(async || holder.extend(&[extension(0)]).await).await.remove(0);
            assert!(matches!(answer, Extended::Held(_)), "{answer:?}");
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all((0..100).map(wait)) => {}
        () = hold => {}
    }
}

/// The answers to requests, which are sent again until all have one, as the driver does it.
async fn answered<T>(send: impl AsyncFn() -> Vec<Result<T, BackendError>>) -> Vec<T> {
    loop {
        let answers: Result<Vec<T>, BackendError> = send().await.into_iter().collect();
        if let Ok(answers) = answers {
            return answers;
        }
    }
}
