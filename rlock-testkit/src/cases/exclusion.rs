//! Rule 1: the weights of the held leases never exceed the capacity.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use rand::RngExt as _;
use rlock_core::{Acquired, BackendError, Client, Released, RwLock, Semaphore};
use tokio::task::{JoinSet, yield_now};

use crate::chance::chance;
use crate::locking::{lock, long, soon, try_lock, unlock};
use crate::peer::{LONG, SOON, Shape, claim};
use crate::wait::within;
use crate::{Remotes, Stage};

/// A mutex that one client holds is refused to another client.
pub async fn second_client_is_refused(stage: &Stage) {
    let (holder, other) = (stage.peer().await, stage.peer().await);
    let held = holder.hold(&claim("x")).await;
    assert!(other.try_claim(&claim("x")).await.is_none(), "two clients hold a mutex");
    assert_eq!(holder.token(&held.key).await, Some(held.token));
}

/// A mutex is refused to the client that holds it: it is not reentrant.
pub async fn same_client_is_refused(stage: &Stage) {
    let client = stage.client().await;
    let _guard = lock(&client, "x").await;
    assert!(try_lock(&client, "x").await.is_none(), "a client holds a mutex twice");
}

/// A holder of one name does not block any other name.
pub async fn names_are_independent(stage: &Stage) {
    let (one, other) = (stage.peer().await, stage.peer().await);
    one.hold(&claim("x")).await;
    other.hold(&claim("y")).await;
    assert!(one.try_claim(&claim("y")).await.is_none());
}

/// A released lock can be acquired again at once, by the same client or another.
pub async fn reacquire_after_release(stage: &Stage) {
    let peers = [stage.peer().await, stage.peer().await];
    for peer in peers.iter().cycle().take(10) {
        let held = peer.hold(&claim("x")).await;
        assert_eq!(peer.release(&held.key).await, Released::Released);
    }
}

/// A hundred tasks of four clients take turns, and never two are inside at a time.
pub async fn hundred_tasks_never_two(stage: &Stage) {
    let clients = join_all((0..4).map(|_| stage.client())).await;
    let inside = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for client in clients.into_iter().cycle().take(100) {
        let inside = inside.clone();
        tasks.spawn(async move {
            let guard = lock(&client, "x").await;
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two tasks hold a mutex");
            yield_now().await;
            inside.fetch_sub(1, Ordering::SeqCst);
            unlock(guard).await;
        });
    }
    assert_eq!(within(SOON, "a hundred turns", tasks.join_all()).await.len(), 100);
}

/// A counter that tasks read and then write under the lock loses no update. Only the lock protects it.
pub async fn unlocked_counter_adds_up(stage: &Stage) {
    const TASKS: usize = 10;
    const ROUNDS: u64 = 20;
    async fn count(client: Client, counter: Arc<AtomicU64>) {
        for _ in 0..ROUNDS {
            let guard = lock(&client, "x").await;
            let read = counter.load(Ordering::SeqCst);
            yield_now().await;
            counter.store(read + 1, Ordering::SeqCst);
            unlock(guard).await;
        }
    }

    let clients = [stage.client().await, stage.client().await];
    let counter = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for client in clients.iter().cycle().take(TASKS) {
        tasks.spawn(count(client.clone(), counter.clone()));
    }
    within(SOON, "all rounds", tasks.join_all()).await;
    assert_eq!(counter.load(Ordering::SeqCst), TASKS as u64 * ROUNDS, "updates were lost");
}

/// A claim that arrives together with a release is held or refused, and never blocks the next claim.
pub async fn acquire_races_release(stage: &Stage) {
    let (mut holder, mut other) = (stage.peer().await, stage.peer().await);
    let mut held = holder.hold(&claim("x")).await;
    for round in 0..200 {
        let next = claim("x");
        let (release, try_claim) = (holder.release(&held.key), other.try_claim(&next));
        // The request that is sent first arrives first in nearly all rounds, so each is first in half of them.
        let (released, won) = if round % 2 == 0 {
            tokio::join!(release, try_claim)
        } else {
            let (won, released) = tokio::join!(try_claim, release);
            (released, won)
        };
        assert_eq!(released, Released::Released);
        held = match won {
            Some(held) => held,
            None => other.hold(&claim("x")).await,
        };
        assert_eq!(other.inspect("x").await.holders.len(), 1);
        std::mem::swap(&mut holder, &mut other);
    }
}

/// Claims of many weights are granted in many combinations, and never exceed the capacity.
pub async fn weights_never_exceed_capacity(stage: &Stage) {
    const CAPACITY: u32 = 5;
    let first = stage.peer().await;
    let held = first.hold(&claim("x").weighing(3, CAPACITY)).await;
    assert!(first.try_claim(&claim("x").weighing(3, CAPACITY)).await.is_none(), "3 and 3 of 5 are held");
    let rest = first.hold(&claim("x").weighing(2, CAPACITY)).await;
    assert!(first.try_claim(&claim("x").weighing(1, CAPACITY)).await.is_none(), "3, 2 and 1 of 5 are held");
    first.release_all(&[held.key, rest.key]).await;

    let taken = Arc::new(AtomicU64::new(0));
    let mut chance = chance();
    let mut tasks = JoinSet::new();
    for peer in [stage.peer().await, stage.peer().await, first.clone()].into_iter().cycle().take(12) {
        let weights: Vec<u32> = (0..20).map(|_| chance.random_range(1..=CAPACITY)).collect();
        let taken = taken.clone();
        tasks.spawn(async move {
            for weight in weights {
                let Some(held) = peer.try_claim(&claim("x").weighing(weight, CAPACITY)).await else { continue };
                let now = taken.fetch_add(weight.into(), Ordering::SeqCst) + u64::from(weight);
                assert!(now <= CAPACITY.into(), "{now} of {CAPACITY} permits are held");
                yield_now().await;
                taken.fetch_sub(weight.into(), Ordering::SeqCst);
                assert_eq!(peer.release(&held.key).await, Released::Released);
            }
        });
    }
    within(SOON, "all claims", tasks.join_all()).await;
    assert!(first.inspect("x").await.is_free());
}

/// Readers share a lock and exclude writers; a writer excludes readers and writers.
pub async fn readers_share_writer_excludes(stage: &Stage) {
    let (one, other) = (stage.client().await, stage.client().await);
    let [first, second] = [&one, &other].map(|client| RwLock::new("x", client).expect("a good name"));

    let reads = [soon("read", first.read_with(long())).await, soon("read", second.read_with(long())).await];
    assert!(soon("write", second.try_write_with(long())).await.is_none(), "a writer beside readers");
    for read in reads {
        unlock(read).await;
    }
    let write = soon("write", second.write_with(long())).await;
    assert!(soon("read", first.try_read_with(long())).await.is_none(), "a reader beside a writer");
    assert!(soon("write", first.try_write_with(long())).await.is_none(), "two writers");
    unlock(write).await;
    unlock(soon("read", first.read_with(long())).await).await;
}

/// A semaphore grants all its permits to several clients, and not one more.
pub async fn semaphore_fills_and_no_more(stage: &Stage) {
    let (one, other) = (stage.client().await, stage.client().await);
    let [first, second] = [&one, &other].map(|client| Semaphore::new("x", 3, client).expect("a good semaphore"));

    let mut permits = vec![
        soon("a permit", first.acquire_many_with(2, long())).await,
        soon("a permit", second.acquire_many_with(1, long())).await,
    ];
    assert!(soon("a try", second.try_acquire_many_with(1, long())).await.is_none(), "4 permits of 3");
    unlock(permits.remove(0)).await;
    permits.push(soon("a permit", second.acquire_many_with(2, long())).await);
    assert!(soon("a try", first.try_acquire_many_with(1, long())).await.is_none(), "4 permits of 3");
}

/// Many holders of one permit and of several fill a semaphore exactly. The permits of one that leaves are granted again,
/// and no more than these.
pub async fn many_holders_fill_a_semaphore(stage: &Stage) {
    const CAPACITY: u32 = 100;
    let peers = [stage.peer().await, stage.peer().await];
    let [one, other] = &peers;
    let permits = |weight: u32| claim("x").weighing(weight, CAPACITY);
    let mut held = Vec::new();
    for (peer, weight) in peers.iter().cycle().zip([1, 4, 4, 1].into_iter().cycle()).take(40) {
        held.push(peer.hold(&permits(weight)).await);
    }
    assert!(other.try_claim(&permits(1)).await.is_none(), "101 permits of {CAPACITY} are held");
    assert!(one.try_claim(&permits(4)).await.is_none(), "104 permits of {CAPACITY} are held");
    for (left, weight) in [(&held[0], 1), (&held[2], 4)] {
        assert_eq!(one.release(&left.key).await, Released::Released);
        assert!(other.try_claim(&permits(weight + 1)).await.is_none(), "101 permits of {CAPACITY} are held");
        other.hold(&permits(weight)).await;
        assert!(one.try_claim(&permits(1)).await.is_none(), "101 permits of {CAPACITY} are held");
    }
}

/// One name used for two kinds of lock is an error that says so, as long as the name is in use.
pub async fn capacity_mismatch_is_an_error(stage: &Stage) {
    let (one, other) = (stage.peer().await, stage.peer().await);
    let held = one.hold(&claim("x")).await;
    let semaphore = claim("x").weighing(1, 3);
    match other.ask(&semaphore).await {
        Err(BackendError::CapacityMismatch { resource, asked: 3, actual: 1 }) => assert_eq!(resource.as_str(), "x"),
        answer => panic!("a mutex was claimed as a semaphore of 3: {answer:?}"),
    }
    let both = other.backend().acquire(&[claim("x").weighing(1, 3), claim("y")]).await;
    assert!(matches!(&both[..], [Err(_), Ok(Acquired::Held(_))]), "a claim failed with another: {both:?}");
    one.release(&held.key).await;
    assert!(matches!(other.ask(&semaphore).await, Ok(Acquired::Held(_))), "the name is out of use");
}

/// Two processes exclude each other, in both directions.
pub async fn two_processes_exclude(stage: &Stage, remotes: &Remotes) {
    let client = stage.client().await;
    let mut remote = remotes.start();
    remote.lock("x", LONG).await;
    assert!(try_lock(&client, "x").await.is_none(), "two processes hold a mutex");
    remote.unlock().await;
    let guard = lock(&client, "x").await;
    assert_eq!(remote.try_lock("x", LONG).await, None, "two processes hold a mutex");
    unlock(guard).await;
}
