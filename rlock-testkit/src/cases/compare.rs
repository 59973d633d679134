//! Rule 4: extend and release act on one lease by its id.

use std::collections::HashSet;
use std::sync::Arc;

use rlock_core::{Client, Extended, Released};

use crate::locking::{lock, unlock};
use crate::peer::{Held, LONG, Peer, SOON, Shape, absent, claim};
use crate::{Observed, Record, Stage};

const TAKEN: Extended = Extended::Gone { taken: true };
const FREE: Extended = Extended::Gone { taken: false };

/// Every acquisition uses a new lease id, even for the same lock of the same client.
pub async fn id_is_new_for_every_acquisition(stage: &Stage) {
    let record = Arc::new(Record::default());
    let watched = record.clone();
    let client = stage.client_through(Client::builder(), |backend| Observed::new(backend, watched)).await;
    for _ in 0..20 {
        unlock(lock(&client, "x").await).await;
    }
    let ids = record.claimed();
    assert!(ids.len() >= 20, "{} claims for 20 locks", ids.len());
    let distinct: HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "an id was used twice");
}

/// A release of a lease that does not exist does not affect the holder of the resource.
pub async fn foreign_release_does_nothing(stage: &Stage) {
    let (holder, other) = (stage.peer().await, stage.peer().await);
    let held = holder.hold(&claim("x")).await;
    for peer in [&other, &holder] {
        assert_eq!(peer.release(&absent("x")).await, Released::Absent);
    }
    still_holds(&holder, &held).await;
}

/// An extension of a lease that does not exist prolongs no lease.
pub async fn foreign_extend_does_nothing(stage: &Stage) {
    let (holder, other) = (stage.peer().await, stage.peer().await);
    let held = holder.hold(&claim("x")).await;
    for peer in [&other, &holder] {
        assert_eq!(peer.extend(&absent("x"), LONG * 10).await, TAKEN);
    }
    assert!(other.remaining("x").await <= LONG, "a foreign extension prolonged the lease");
    still_holds(&holder, &held).await;
}

/// A holder that releases after its lease expired does not release the next holder's.
pub async fn stale_release_spares_the_next_holder(stage: &Stage) {
    let (stale, next) = (stage.peer().await, stage.peer().await);
    let (old, held) = overtaken(stage, &stale, &next).await;
    assert_eq!(stale.release(&old.key).await, Released::Absent);
    still_holds(&next, &held).await;
}

/// A holder that extends after its lease expired does not extend the next holder's.
pub async fn stale_extend_spares_the_next_holder(stage: &Stage) {
    let (stale, next) = (stage.peer().await, stage.peer().await);
    let (old, held) = overtaken(stage, &stale, &next).await;
    assert_eq!(stale.extend(&old.key, LONG * 10).await, TAKEN);
    assert!(next.remaining("x").await <= LONG, "a stale extension prolonged the next holder's lease");
    still_holds(&next, &held).await;
}

/// A released lease stays released, however often it is extended.
pub async fn extend_never_resurrects_released(stage: &Stage) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    let held = peer.hold(&claim("x")).await;
    peer.release(&held.key).await;
    for peer in [&peer, &other] {
        assert_eq!(peer.extend(&held.key, LONG).await, FREE);
    }
    assert!(peer.inspect("x").await.is_free());
    other.hold(&claim("x")).await;
}

/// An expired lease stays expired, however often it is extended.
pub async fn extend_never_resurrects_expired(stage: &Stage) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    let held = peer.hold(&claim("x").living(stage.short())).await;
    other.sees_free("x").await;
    for peer in [&peer, &other] {
        assert_eq!(peer.extend(&held.key, LONG).await, FREE);
    }
    assert!(peer.inspect("x").await.is_free());
    other.hold(&claim("x")).await;
}

/// Only the first release of a lease reports that the lease existed.
pub async fn release_is_true_once(stage: &Stage) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    let held = peer.hold(&claim("x")).await;
    assert_eq!(peer.release(&held.key).await, Released::Released);
    assert_eq!(peer.release(&held.key).await, Released::Absent);
    assert_eq!(other.release(&held.key).await, Released::Absent);
}

/// A holder whose lease was broken does not release the next holder's.
pub async fn break_then_old_release_is_harmless(stage: &Stage) {
    let (broken, next) = (stage.peer().await, stage.peer().await);
    let old = broken.hold(&claim("x")).await;
    assert_eq!(next.break_leases("x").await, 1);
    assert_eq!(broken.state(&old.key).await, FREE);
    let held = next.hold(&claim("x")).await;
    assert_eq!(broken.release(&old.key).await, Released::Absent);
    still_holds(&next, &held).await;
}

/// An expired lease of `stale`, and the later lease of `next` on the same resource.
async fn overtaken(stage: &Stage, stale: &Peer, next: &Peer) -> (Held, Held) {
    let old = stale.hold(&claim("x").living(stage.short())).await;
    (old, next.hold_once_free(SOON, "x").await)
}

async fn still_holds(peer: &Peer, held: &Held) {
    assert_eq!(peer.token(&held.key).await, Some(held.token), "the holder lost its lease");
}
