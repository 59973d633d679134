//! Rules 13 and 14: a release may keep its resource taken for a time, and leases carry data of their holders.

use std::time::{Duration, Instant};

use rlock_core::{LeaseData, LockOptions, Released};

use crate::Stage;
use crate::locking::{lock, lock_as, soon, try_lock, unlock};
use crate::peer::{SOON, Shape, claim};
use crate::wait::within;

/// A resting resource has no holder, and is refused to every client.
pub async fn rest_keeps_others_away(stage: &Stage) {
    let (holder, other) = (stage.peer().await, stage.peer().await);
    let held = holder.hold(&claim("x")).await;
    assert_eq!(holder.release_and_rest(&held.key, SOON).await, Released::Released);
    assert_eq!(holder.release_and_rest(&held.key, SOON).await, Released::Absent, "it was released already");
    let snapshot = other.inspect("x").await;
    assert!(snapshot.holders.is_empty() && snapshot.rest.is_some_and(|rest| rest <= SOON), "{snapshot:?}");
    assert!(other.try_claim(&claim("x")).await.is_none(), "the rest was not kept");
    assert_eq!(other.break_leases("x").await, 0);
    other.hold(&claim("x")).await;
}

/// The first waiter gets the resource at the end of the rest, even if the client that released it has ended.
pub async fn rest_ends_by_itself(stage: &Stage) {
    let (holder, client) = (stage.peer().await, stage.client().await);
    let held = holder.hold(&claim("x")).await;
    let released = Instant::now();
    holder.release_and_rest(&held.key, stage.brisk()).await;
    drop(holder);
    let guard = within(stage.brisk() + SOON, "the end of the rest", lock(&client, "x")).await;
    let rested = released.elapsed();
    assert!(rested + Duration::from_millis(5) >= stage.brisk(), "it rested for {rested:?}");
    assert!(guard.token() > held.token);
    unlock(guard).await;
}

/// One permit rests, and the others are free.
pub async fn rest_takes_only_its_share(stage: &Stage) {
    let (holder, other) = (stage.peer().await, stage.peer().await);
    let permits = |weight| claim("x").weighing(weight, 3);
    let held = holder.hold(&permits(1)).await;
    holder.release_and_rest(&held.key, SOON).await;
    assert!(other.try_claim(&permits(3)).await.is_none());
    other.hold(&permits(2)).await;
}

/// A lock that is released before its minimum time stays taken until then.
pub async fn hold_at_least_outlasts_the_release(stage: &Stage) {
    let (client, other) = (stage.client().await, stage.client().await);
    let begun = Instant::now();
    let guard = lock_as(&client, "x", LockOptions::new().hold_at_least(stage.brisk())).await;
    unlock(guard).await;
    assert!(try_lock(&other, "x").await.is_none(), "it was free at once");
    let guard = within(stage.brisk() + SOON, "the minimum time", lock(&other, "x")).await;
    let held = begun.elapsed();
    assert!(held + Duration::from_millis(5) >= stage.brisk(), "it was taken for {held:?}");
    unlock(guard).await;
}

/// A client that shuts down releases its locks, and their rests remain.
pub async fn hold_at_least_outlasts_the_client(stage: &Stage) {
    let (client, other) = (stage.client().await, stage.client().await);
    let guard = lock_as(&client, "x", LockOptions::new().hold_at_least(SOON)).await;
    soon("shut down", client.shutdown(SOON)).await;
    drop(guard);
    let snapshot = stage.peer().await.inspect("x").await;
    assert!(snapshot.holders.is_empty() && snapshot.rest.is_some(), "{snapshot:?}");
    assert!(try_lock(&other, "x").await.is_none(), "the rest was not kept");
}

/// Snapshots show the data of holders and waiters, and no longer after the release.
pub async fn data_are_shown(stage: &Stage) {
    let (holder, other) = (stage.peer().await, stage.peer().await);
    let data =
        [&[0, 255, 10, 13][..], &[7; LeaseData::MAX_LEN]].map(|data| Some(LeaseData::new(data).expect("it fits")));
    let [first, second] = data.clone();
    let held = holder.hold(&rlock_core::Claim { data: first, ..claim("x") }).await;
    if stage.capabilities().queue {
        other.queue(&rlock_core::Claim { data: second, ..claim("x").queued() }).await;
        assert_eq!(other.inspect("x").await.queue[0].data, data[1]);
    }
    assert_eq!(other.inspect("x").await.holders[0].data, data[0]);
    holder.release(&held.key).await;
    assert!(other.inspect("x").await.holders.iter().all(|holder| holder.data != data[0]));
}
