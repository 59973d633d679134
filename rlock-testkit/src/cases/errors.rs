//! Rule 9: errors say whether the request was applied, and none of them is a loss.

use std::time::Duration;

use rand::RngExt as _;
use rlock_core::{Acquired, BackendError, Claim, Extended, LockOptions, Release, Released};
use tokio::time::sleep;

use crate::chance::{chance, up_to};
use crate::faults::{Proxy, Way};
use crate::locking::{lock_as, unlock};
use crate::peer::{SOON, claim};
use crate::wait::{eventually, within};
use crate::{Network, Stage};

/// Connections break while claims and releases are in flight. A request that is reported as not applied has no effect,
/// then or later. A request that was answered has its effect. A request that cannot be sent is reported as such.
pub async fn error_says_whether_applied(stage: &Stage, network: &Network) {
    const ROUNDS: usize = 30;
    let (behind, proxy) = network.proxied().await;
    let (peer, direct) = (behind.peer().await, stage.peer().await);
    let mut chance = chance();
    for round in 0..ROUNDS {
        peer.is_reached().await;
        proxy.slow(Duration::from_millis(1)); // so that requests are in flight when it breaks
        let claims: Vec<Claim> = (0..10).map(|number| claim(&format!("{round}/{number}"))).collect();
        let held: Vec<Claim> = (0..10).map(|number| claim(&format!("{round}/held/{number}"))).collect();
        direct.acquire(&held).await;
        let keys: Vec<_> = held.iter().map(|claim| claim.key.clone()).collect();

        let (before, after) =
            (up_to(Duration::from_millis(6), &mut chance), up_to(Duration::from_millis(50), &mut chance));
        let kind = chance.random_range(0..4);
        let spoil = async {
            sleep(before).await;
            spoil(&proxy, kind);
            sleep(after).await;
            proxy.heal();
        };
        let releases: Vec<Release> = keys.iter().cloned().map(Release::from).collect();
        let calls = async { tokio::join!(peer.backend().acquire(&claims), peer.backend().release(&releases)) };
        let ((acquired, released), ()) = within(SOON, "answers", async { tokio::join!(calls, spoil) }).await;

        peer.is_reached().await;
        for (claim, answer) in claims.iter().zip(acquired) {
            let is_there = !matches!(direct.state(&claim.key).await, Extended::Gone { .. });
            match answer {
                Ok(Acquired::Held(_)) => assert!(is_there, "a claim that was answered had no effect"),
                Err(BackendError::NotApplied(failure)) => assert!(!is_there, "it was applied, but: {failure}"),
                Err(BackendError::Unknown(_)) => {}
                other => panic!("a claim on a free resource: {other:?}"),
            }
        }
        for (key, answer) in keys.iter().zip(released) {
            let is_there = !matches!(direct.state(key).await, Extended::Gone { .. });
            match answer {
                Ok(Released::Released) => assert!(!is_there, "a release that was answered had no effect"),
                Err(BackendError::NotApplied(failure)) => assert!(is_there, "it was applied, but: {failure}"),
                Err(BackendError::Unknown(_)) => {}
                other => panic!("a release of a lease that exists: {other:?}"),
            }
        }
    }
    proxy.cut();
    let says_so = async || matches!(peer.ask(&claim("nowhere")).await, Err(BackendError::NotApplied(_)));
    eventually(SOON, "the word that nothing was applied", says_so).await;
}

/// An outage of the connection shorter than the life of a lease loses nothing: a broken connection is not a loss.
pub async fn transient_error_is_no_loss(stage: &Stage, network: &Network) {
    let (behind, proxy) = network.proxied().await;
    let (client, peer) = (behind.client().await, stage.peer().await);
    let ttl = stage.brisk() * 3;
    let guard = lock_as(&client, "x", LockOptions::new().ttl(ttl)).await;
    for _ in 0..3 {
        proxy.cut();
        // Long enough for a renewal to become due.
        let outage = sleep(ttl * 4 / 10);
        let (answer, ()) = tokio::join!(within(SOON, "an answer", client.inspect("x")), outage);
        assert!(answer.is_err(), "the connection was not cut");
        proxy.heal();
        assert!(guard.is_held(), "{:?}", guard.loss());
        sleep(ttl / 2).await;
    }
    assert!(guard.is_held(), "{:?}", guard.loss());
    assert_eq!(peer.inspect("x").await.holders[0].token, guard.token());
    unlock(guard).await;
}

fn spoil(proxy: &Proxy, kind: u32) {
    match kind {
        0 => proxy.cut(),
        1 => proxy.reset(),
        2 => proxy.stall(Way::Both),
        _ => proxy.stall(Way::ToClient),
    }
}
