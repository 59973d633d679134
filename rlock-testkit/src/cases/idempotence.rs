//! Rule 8: every request may be sent twice, and a missing reply means an unknown outcome, not a failure.

use std::time::Duration;

use rlock_core::{Acquired, Extended, Released};
use tokio::time::sleep;

use crate::Stage;
use crate::faults::{Fault, Faults, Verb};
use crate::locking::{lock, lock_as, lock_in_background, long, mutex, served, soon, try_lock, unlock};
use crate::peer::{SOON, Shape, claim};
use crate::wait::{eventually, within};

const VERBS: [Verb; 3] = [Verb::Acquire, Verb::Extend, Verb::Release];

/// A claim whose reply gets lost is retried, and is the same lease.
pub async fn reply_lost_on_acquire(stage: &Stage) {
    let faults = Faults::none();
    let (client, other, peer) = (stage.faulty_client(&faults).await, stage.client().await, stage.peer().await);
    for _ in 0..5 {
        faults.next(Verb::Acquire, Fault::DropReply);
        let guard = lock(&client, "x").await;
        let tokens: Vec<_> = peer.inspect("x").await.holders.iter().map(|holder| holder.token).collect();
        assert_eq!(tokens, [guard.token()], "the lease that the store has is not the guard's");
        assert!(try_lock(&other, "x").await.is_none());
        unlock(guard).await;
        unlock(try_lock(&other, "x").await.expect("it was released")).await;
    }
    assert_eq!(faults.happened(Verb::Acquire).len(), 5);
}

/// An extension whose reply gets lost does no harm.
pub async fn reply_lost_on_extend(stage: &Stage) {
    let faults = Faults::none();
    let (client, other) = (stage.faulty_client(&faults).await, stage.client().await);
    let guard = lock_as(&client, "x", rlock_core::LockOptions::new().ttl(stage.brisk())).await;
    for _ in 0..3 {
        faults.next(Verb::Extend, Fault::DropReply);
        sleep(stage.brisk()).await;
        assert!(guard.is_held(), "{:?}", guard.loss());
        assert!(try_lock(&other, "x").await.is_none(), "the lease expired in the store");
    }
    assert_eq!(faults.happened(Verb::Extend).len(), 3);
    faults.next(Verb::Extend, Fault::DropReply);
    soon("an extension by hand", guard.extend(SOON)).await;
    unlock(guard).await;
}

/// A release whose reply gets lost is retried, and does not affect the next holder.
pub async fn reply_lost_on_release(stage: &Stage) {
    let faults = Faults::none();
    let (client, peer) = (stage.faulty_client(&faults).await, stage.peer().await);
    let guard = lock(&client, "x").await;
    let next = claim("x").queued();
    let queues = stage.capabilities().queue;
    if queues {
        peer.queue(&next).await;
    }
    faults.next(Verb::Release, Fault::DropReply);
    unlock(guard).await;
    assert_eq!(faults.happened(Verb::Release).len(), 1);
    if !queues {
        peer.hold(&next).await; // without a queue, it cannot hold before the second release
    }
    assert!(peer.token(&next.key).await.is_some(), "the repeated release hit the next holder");
}

/// Requests that never arrive are retried.
pub async fn lost_requests_are_sent_again(stage: &Stage) {
    let faults = Faults::none();
    let (client, other) = (stage.faulty_client(&faults).await, stage.client().await);
    faults.next(Verb::Acquire, Fault::DropRequest);
    let guard = lock(&client, "x").await;
    faults.next(Verb::Extend, Fault::DropRequest);
    soon("an extension", guard.extend(SOON)).await;
    faults.next(Verb::Release, Fault::DropRequest);
    unlock(guard).await;
    unlock(try_lock(&other, "x").await.expect("the release was sent again")).await;
    for verb in VERBS {
        assert_eq!(faults.happened(verb).len(), 1, "{verb:?}");
    }
}

/// A client whose requests all arrive twice behaves like any other.
pub async fn requests_arrive_twice(stage: &Stage) {
    let faults = Faults::none();
    for verb in VERBS {
        faults.all(verb, Fault::Duplicate);
    }
    let (twice, once, peer) = (stage.faulty_client(&faults).await, stage.client().await, stage.peer().await);
    for _ in 0..10 {
        let guard = lock(&twice, "x").await;
        soon("an extension", guard.extend(SOON)).await;
        assert!(try_lock(&once, "x").await.is_none());
        let waiting = lock_in_background(&once, "x");
        stage.sees_waiting(1, "x").await;
        unlock(guard).await;
        let guard = served(waiting).await;
        let waiting = lock_in_background(&twice, "x");
        stage.sees_waiting(1, "x").await;
        unlock(guard).await;
        unlock(served(waiting).await).await;
    }
    assert!(peer.inspect("x").await.is_free());
}

/// A client that extends the lease of another client and claims it by its id, as `adopt` does, gets the same lease with
/// however many waiters behind it. It can extend and release the lease.
pub async fn lease_is_adopted_in_front_of_many(stage: &Stage) {
    let (first, second) = (stage.peer().await, stage.peer().await);
    let claimed = claim("x");
    let token = first.hold(&claimed).await.token;
    let waiters: Vec<_> = (0..20).map(|_| claim("x").queued()).collect();
    for waiter in &waiters {
        first.queue(waiter).await;
    }
    for _ in 0..2 {
        assert_eq!(second.token(&claimed.key).await, Some(token));
        assert_eq!(second.hold(&claimed).await.token, token);
    }
    assert_eq!(second.release(&claimed.key).await, Released::Released);
    first.granted(SOON, &waiters[0].key).await;
}

/// A claim that is sent twice is one lease, held or queued, and takes its weight once.
pub async fn acquire_sent_twice_is_one_lease(stage: &Stage) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    let half = || claim("x").weighing(1, 2);
    let first = half();
    let held = peer.hold(&first).await;
    for peer in [&peer, &other] {
        assert_eq!(peer.hold(&first).await.token, held.token);
    }
    assert_eq!(peer.inspect("x").await.holders.len(), 1);
    let second = other.hold(&half()).await;
    assert!(peer.try_claim(&half()).await.is_none());

    if stage.capabilities().queue {
        let [waiter, behind] = [half().queued(), half().queued()];
        peer.queue(&waiter).await;
        peer.queue(&behind).await;
        for peer in [&other, &peer] {
            assert_eq!(peer.queue(&waiter).await, 0, "a waiter lost its position by retrying");
        }
        assert_eq!(peer.inspect("x").await.queue.len(), 2);
        for key in [&behind.key, &waiter.key] {
            assert_eq!(peer.release(key).await, Released::Released);
        }
    }
    for key in [&held.key, &second.key] {
        assert_eq!(peer.release(key).await, Released::Released);
        assert_eq!(peer.state(key).await, Extended::Gone { taken: key == &held.key });
    }
    assert!(matches!(other.ask(&claim("x")).await, Ok(Acquired::Held(_))), "a repeated claim left a lease behind");
}

/// A claim that reaches the store after its client timed out, or after an unknown outcome, is released.
pub async fn late_acquire_is_cleaned_up(stage: &Stage) {
    const LATE: Duration = Duration::from_millis(300);
    let faults = Faults::none();
    let (client, peer) = (stage.faulty_client(&faults).await, stage.peer().await);

    faults.next(Verb::Acquire, Fault::Delay(LATE));
    let wait = long().wait(LATE / 3);
    let error = within(SOON, "a wait", mutex(&client, "x").lock_with(wait)).await.expect_err("the claim comes late");
    assert!(error.is_timeout(), "{error}");
    sleep(LATE).await;
    eventually(SOON, "the end of the claim", async || client.open_leases() == 0).await;
    peer.sees_free("x").await;

    faults.next(Verb::Acquire, Fault::Late(LATE));
    unlock(lock(&client, "y").await).await;
    sleep(LATE * 2).await;
    peer.sees_free("y").await;
    assert_eq!(faults.happened(Verb::Acquire).len(), 2);
}
