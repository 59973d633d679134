//! Rule 7: every operation that frees capacity grants the next waiters, and notifies them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select_all};
use rlock_core::{Client, LockOptions, LossReason, Semaphore};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::chance::{chance, up_to};
use crate::faults::Faults;
use crate::locking::{lock, lock_in_background, long, mutex, served, soon, unlock};
use crate::peer::{SOON, Shape, claim};
use crate::wait::{eventually, linger, within};
use crate::{Network, Observed, Record, Stage};

/// Far shorter than the leases of these cases and than the interval between renewals: only a lost wake-up takes longer.
const PROMPT: Duration = Duration::from_secs(5);

/// A waiter gets the lock when the holder releases it.
pub async fn wakes_on_release(stage: &Stage) {
    let holder = stage.client().await;
    let record = Arc::new(Record::default());
    let watched = record.clone();
    let waiter = stage.client_through(Client::builder(), |backend| Observed::new(backend, watched)).await;
    let guard = lock(&holder, "x").await;
    let waiting = lock_in_background(&waiter, "x");
    eventually(SOON, "a claim of the waiter's", async || record.calls() > 0).await;
    stage.sees_waiting(1, "x").await;
    assert!(!waiting.is_finished(), "a waiter does not wait");
    let token = guard.token();
    unlock(guard).await;
    let next = within(PROMPT, "the wake-up", served(waiting)).await;
    assert!(next.token() > token);
}

/// A hand-over takes far less than any TTL, also for the last of many waiters.
pub async fn wake_up_is_prompt(stage: &Stage) {
    let clients = [stage.client().await, stage.client().await];
    let mut guard = lock(&clients[0], "x").await;
    let mut waiters = Vec::new();
    for (number, client) in clients.iter().cycle().take(20).enumerate() {
        waiters.push(lock_in_background(client, "x"));
        stage.sees_waiting(number + 1, "x").await;
    }
    while !waiters.is_empty() {
        let released = Instant::now();
        unlock(guard).await;
        let (woken, _, others) = select_all(waiters).await;
        guard = woken.expect("no waiting task panics").expect("the waiter is granted");
        waiters = others;
        assert!(released.elapsed() < PROMPT, "a waiter was woken after {:?}", released.elapsed());
    }
}

/// A waiter does not miss a release between its request and its wait, in a thousand tries.
pub async fn no_lost_wake_up(stage: &Stage) {
    let (mut holder, mut waiter) = (stage.client().await, stage.client().await);
    let mut chance = chance();
    let mut guard = lock(&holder, "x").await;
    for _ in 0..1_000 {
        let waiting = lock_in_background(&waiter, "x");
        linger(up_to(Duration::from_micros(600), &mut chance)).await;
        unlock(guard).await;
        guard = within(PROMPT, "the wake-up", served(waiting)).await;
        std::mem::swap(&mut holder, &mut waiter);
    }
}

/// A waiter that receives no events still gets the lock, through the answer to its next renewal.
pub async fn lost_event_is_repaired(stage: &Stage) {
    let faults = Faults::none();
    faults.lose_events(true);
    let (holder, waiter) = (stage.client().await, stage.faulty_client(&faults).await);
    for _ in 0..3 {
        let guard = lock(&holder, "x").await;
        let name = mutex(&waiter, "x");
        let options = LockOptions::new().ttl(stage.brisk());
        let waiting = tokio::spawn(async move { name.lock_with(options).await });
        stage.sees_waiting(1, "x").await;
        unlock(guard).await;
        let guard = within(stage.brisk() + PROMPT, "the repair", served(waiting)).await;
        assert!(guard.is_held());
        unlock(guard).await;
    }
}

/// A waiter whose connections are reset keeps its position, and is notified of its grant over the new ones.
pub async fn waiter_survives_its_connection(stage: &Stage, network: &Network) {
    let (behind, proxy) = network.proxied().await;
    let (holder, waiter, later) = (stage.client().await, behind.client().await, stage.client().await);
    let mut guard = lock(&holder, "x").await;
    for _ in 0..3 {
        let first = lock_in_background(&waiter, "x");
        stage.sees_waiting(1, "x").await;
        let second = lock_in_background(&later, "x");
        stage.sees_waiting(2, "x").await;
        proxy.reset();
        let answers = async || waiter.inspect("x").await.is_ok();
        eventually(SOON, "a new connection", answers).await;
        unlock(guard).await;
        if stage.capabilities().queue {
            let turn = within(PROMPT, "the first waiter's turn", served(first)).await;
            assert!(!second.is_finished(), "a waiter lost its position with its connection");
            unlock(turn).await;
            guard = within(PROMPT, "the second waiter's turn", served(second)).await;
        } else {
            let turns = [first, second].map(|waiting| async { unlock(served(waiting).await).await });
            join_all(turns).await;
            guard = lock(&holder, "x").await;
        }
    }
}

/// All of many waiters get the lock.
pub async fn all_waiters_are_served(stage: &Stage) {
    let clients = join_all((0..3).map(|_| stage.client())).await;
    let mut waiters = JoinSet::new();
    let guard = lock(&clients[0], "x").await;
    for client in clients.iter().cycle().take(90) {
        let waiting = lock_in_background(client, "x");
        waiters.spawn(async move { unlock(served(waiting).await).await });
    }
    stage.sees_waiting(90, "x").await;
    unlock(guard).await;
    assert_eq!(within(SOON, "all turns", waiters.join_all()).await.len(), 90);
}

/// A wait ends when it times out, neither before nor long after that, and the waiter leaves the queue.
pub async fn wait_timeout_is_exact(stage: &Stage) {
    const WAIT: Duration = Duration::from_millis(500);
    let (holder, waiter) = (stage.client().await, stage.client().await);
    let guard = lock(&holder, "x").await;
    let started = Instant::now();
    let error = within(SOON, "the wait", mutex(&waiter, "x").lock_with(long().wait(WAIT))).await.unwrap_err();
    let waited = started.elapsed();
    assert!(error.is_timeout(), "{error}");
    assert!(waited >= WAIT, "it gave up after {waited:?}");
    assert!(waited < WAIT + PROMPT, "it gave up after {waited:?}");
    stage.peer().await.sees_queued(0, "x").await;
    assert!(guard.is_held());
}

/// A wait of zero acquires a free lock, and tries a held one once.
pub async fn zero_wait_is_one_try(stage: &Stage) {
    let (holder, other) = (stage.client().await, stage.client().await);
    let at_once = || long().wait(Duration::ZERO);
    let guard = soon("a free lock", mutex(&holder, "x").lock_with(at_once())).await;
    let started = Instant::now();
    let error = within(SOON, "a try", mutex(&other, "x").lock_with(at_once())).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(started.elapsed() < PROMPT, "it gave up after {:?}", started.elapsed());
    stage.peer().await.sees_queued(0, "x").await;
    unlock(guard).await;
}

/// A grant that arrives while the wait times out is returned or released, in two hundred tries.
pub async fn grant_racing_timeout_is_not_leaked(stage: &Stage) {
    let (holder, waiter) = (stage.client().await, stage.client().await);
    let mut chance = chance();
    let (mut granted, mut timed_out) = (0, 0);
    for _ in 0..200 {
        let guard = lock(&holder, "x").await;
        let wait = up_to(Duration::from_millis(4), &mut chance);
        let lock = mutex(&waiter, "x");
        let waiting = tokio::spawn(async move { lock.lock_with(long().wait(wait)).await });
        linger(up_to(Duration::from_millis(4), &mut chance)).await;
        unlock(guard).await;
        match within(SOON, "the wait", waiting).await.expect("the waiting task does not panic") {
            Ok(guard) => {
                granted += 1;
                unlock(guard).await;
            }
            Err(error) => {
                timed_out += 1;
                assert!(error.is_timeout(), "{error}");
            }
        }
    }
    println!("{granted} were granted, {timed_out} timed out");
    stage.peer().await.sees_free("x").await;
}

/// An idle waiter sends few requests: at most twice a second, or eight times if the store has no queue and it has to
/// poll.
pub async fn idle_waiter_is_quiet(stage: &Stage) {
    const WATCHED: Duration = Duration::from_secs(3);
    let holder = stage.client().await;
    let record = Arc::new(Record::default());
    let watched = record.clone();
    let waiter = stage.client_through(Client::builder(), |backend| Observed::new(backend, watched)).await;
    let _guard = lock(&holder, "x").await;
    let waiting = lock_in_background(&waiter, "x");
    stage.sees_waiting(1, "x").await;
    let a_second = if stage.capabilities().queue { 2 } else { 8 };
    if !stage.capabilities().queue {
        // Its polls back off.
        eventually(SOON, "the first requests", async || record.calls() > 8).await;
    }
    let before = record.calls();
    sleep(WATCHED).await;
    let calls = record.calls() - before;
    assert!(calls <= a_second * WATCHED.as_secs(), "{calls} calls in {WATCHED:?}");
    assert!(!waiting.is_finished(), "the waiter has stopped waiting");
}

/// A break ends all held leases, and grants the next waiter in the same step.
pub async fn break_grants_the_next(stage: &Stage) {
    let (holder, waiter) = (stage.peer().await, stage.peer().await);
    let held = [holder.hold(&claim("x").weighing(1, 2)).await, waiter.hold(&claim("x").weighing(1, 2)).await];
    let next = claim("x").weighing(2, 2).queued();
    waiter.queue(&next).await;
    assert_eq!(waiter.break_leases("x").await, 2);
    let snapshot = holder.inspect("x").await;
    assert_eq!((snapshot.holders.len(), snapshot.queue.len()), (1, 0));
    for held in held {
        assert!(waiter.token(&next.key).await.is_some_and(|token| token > held.token));
        assert_eq!(holder.token(&held.key).await, None);
    }
}

/// A waiter for all permits is woken by the release of the last one, and the waiter behind it by the next release.
pub async fn waiter_for_all_permits_is_woken(stage: &Stage) {
    let (one, other) = (stage.client().await, stage.client().await);
    let [first, second] = [&one, &other].map(|client| Semaphore::new("x", 3, client).expect("a good semaphore"));
    let waits = |semaphore: &Semaphore, permits: u32| {
        let semaphore = semaphore.clone();
        tokio::spawn(async move { semaphore.acquire_many_with(permits, long()).await })
    };
    let mut singles = Vec::new();
    for _ in 0..3 {
        singles.push(soon("a permit", first.acquire_many_with(1, long())).await);
    }
    let all = waits(&second, 3);
    stage.sees_waiting(1, "x").await;
    let behind = waits(&first, 1);
    stage.sees_waiting(2, "x").await;
    for single in singles {
        assert!(!all.is_finished() && !behind.is_finished(), "a waiter was granted too early");
        unlock(single).await;
    }
    let all = within(PROMPT, "the wake-up for all permits", served(all)).await;
    assert!(!behind.is_finished(), "4 permits of 3");
    unlock(all).await;
    unlock(within(PROMPT, "the wake-up behind it", served(behind)).await).await;
}

/// Each holder of a broken lock is notified at once, long before its next renewal, and learns the reason.
pub async fn break_tells_the_holder(stage: &Stage) {
    let (one, two, other) = (stage.client().await, stage.client().await, stage.client().await);
    let [first, second] = [&one, &two].map(|client| Semaphore::new("x", 2, client).expect("a good semaphore"));
    let permits = [&first, &second].map(|semaphore| soon("a permit", semaphore.acquire_many_with(1, long())));
    let permits = join_all(permits).await;
    assert_eq!(soon("a break", other.break_leases("x")).await, 2);
    for permit in permits {
        assert_eq!(within(PROMPT, "the signal of the break", permit.lost()).await, LossReason::Broken);
        assert!(!permit.is_held());
    }
}
