//! Rule 3: tokens strictly increase in the order of grants.

use rlock_core::{Acquired, Extended, LockOptions, Token};

use crate::faults::{Control, Data};
use crate::locking::{lock, lock_as, unlock, unwatched};
use crate::peer::{Held, LONG, Peer, SOON, Shape, claim};
use crate::wait::within;
use crate::{Remotes, Stage};

/// Leases that are held at the same time have tokens in the order of their grants, across clients.
pub async fn token_increases(stage: &Stage) {
    let peers = [stage.peer().await, stage.peer().await];
    let mut last = Token::new(0);
    for peer in peers.iter().cycle().take(20) {
        last = grows(last, &peer.hold(&claim("x").weighing(1, 20)).await);
    }
}

/// The token after a release is greater than the one before, across clients.
pub async fn token_increases_after_release(stage: &Stage) {
    let peers = [stage.peer().await, stage.peer().await];
    let mut last = Token::new(0);
    for peer in peers.iter().cycle().take(20) {
        let held = peer.hold(&claim("x")).await;
        last = grows(last, &held);
        peer.release(&held.key).await;
    }
}

/// The token after an expiry is greater than that of the expired lease.
pub async fn token_increases_after_expiry(stage: &Stage) {
    let (crashed, peer) = (stage.peer().await, stage.peer().await);
    let before = crashed.hold(&claim("x").living(stage.short())).await;
    grows(before.token, &peer.hold_once_free(stage.short() + SOON, "x").await);
}

/// The token after a forced break is greater than that of the broken lease.
pub async fn token_increases_after_break(stage: &Stage) {
    let (holder, other) = (stage.peer().await, stage.peer().await);
    let before = holder.hold(&claim("x")).await;
    assert_eq!(other.break_leases("x").await, 1);
    grows(before.token, &other.hold(&claim("x")).await);
}

/// The token after a crash and restart of the store is greater than all earlier ones.
pub async fn token_increases_after_restart(stage: &Stage, server: &dyn Control, _: &Remotes) {
    // A crash may lose a release. Then the next holder waits until the lease expires.
    let brief = LockOptions::new().ttl(stage.brisk());
    let guard = lock_as(&stage.client().await, "x", brief).await;
    let before = guard.token();
    unlock(guard).await;
    within(SOON, "a restart of the store", server.restart(Data::Kept)).await;
    let after = lock(&stage.client().await, "x").await.token();
    assert!(after > before, "token {after} was granted after {before}");
}

/// Waiters that are granted one after the other get increasing tokens, across clients.
pub async fn token_follows_grant_order(stage: &Stage) {
    let peers = [stage.peer().await, stage.peer().await];
    let held = peers[0].hold(&claim("x")).await;
    let (mut last, mut holder) = (held.token, held.key);
    let waiters: Vec<_> = (0..6).map(|_| claim("x").queued()).collect();
    for (peer, waiter) in peers.iter().cycle().zip(&waiters) {
        peer.queue(waiter).await;
    }
    for (peer, waiter) in peers.iter().cycle().zip(waiters) {
        peers[0].release(&holder).await;
        let token = peer.token(&waiter.key).await.expect("it is next");
        last = grows(last, &Held { key: waiter.key.clone(), token, ttl: LONG });
        holder = waiter.key;
    }
}

/// Extending a lease does not change its token.
pub async fn token_unchanged_by_extend(stage: &Stage) {
    let peer = stage.peer().await;
    let held = peer.hold(&claim("x").living(stage.brisk() * 10)).await;
    for _ in 0..5 {
        assert_eq!(token_of(peer.extend(&held.key, LONG).await), Some(held.token));
    }
    assert_eq!(holders(&peer).await, [held.token]);
}

/// A claim whose lease already exists returns its token, and changes nothing.
pub async fn token_unchanged_by_acquire_again(stage: &Stage) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    let again = claim("x");
    let held = peer.hold(&again).await;
    for peer in [&peer, &other] {
        match peer.ask(&again.clone().living(LONG * 10)).await {
            Ok(Acquired::Held(grant)) => assert_eq!(grant.token, held.token),
            answer => panic!("the claim is held already: {answer:?}"),
        }
    }
    assert_eq!(holders(&peer).await, [held.token]);
    assert!(peer.remaining("x").await <= LONG, "a claim that came again prolonged the lease");
}

/// A refused claim never has a lease, then or later.
pub async fn refused_acquire_gets_none(stage: &Stage) {
    let (holder, other) = (stage.peer().await, stage.peer().await);
    let held = holder.hold(&claim("x")).await;
    let refused = claim("x");
    assert_eq!(other.ask(&refused).await.ok(), Some(Acquired::Busy));
    assert_eq!(other.state(&refused.key).await, Extended::Gone { taken: true });
    assert_eq!(holders(&other).await, [held.token]);
    holder.release(&held.key).await;
    assert_eq!(other.state(&refused.key).await, Extended::Gone { taken: false });
    assert!(other.inspect("x").await.is_free());
}

/// A resource that refuses tokens smaller than the greatest it has seen is safe from a holder that does not know of its
/// loss.
pub async fn resource_rejects_stale_token(stage: &Stage) {
    let (slow, quick) = (stage.client().await, stage.client().await);
    let mut register = Register { greatest: Token::new(0), value: "" };
    let stale = lock_as(&slow, "x", unwatched(stage.short())).await;
    assert!(register.write(stale.token(), "first"));
    let fresh = lock(&quick, "x").await;
    assert!(register.write(fresh.token(), "second"));
    assert!(!register.write(stale.token(), "late"), "a stale holder wrote");
    assert_eq!(register.value, "second");
    unlock(fresh).await;
}

/// Every request that returns the token of a lease returns the same number, from 1 up to 2^53.
pub async fn token_is_exact(stage: &Stage) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    for _ in 0..50 {
        let claim = claim("x");
        let held = peer.hold(&claim).await;
        assert!((1..1 << 53).contains(&held.token.get()), "{:?}", held.token);
        assert_eq!(holders(&other).await, [held.token]);
        assert_eq!(token_of(other.extend(&held.key, LONG).await), Some(held.token));
        assert!(matches!(other.ask(&claim).await, Ok(Acquired::Held(grant)) if grant.token == held.token));
        peer.release(&held.key).await;
    }
}

/// A protected resource that checks fencing tokens.
#[derive(Debug)]
struct Register {
    greatest: Token,
    value: &'static str,
}

impl Register {
    fn write(&mut self, token: Token, value: &'static str) -> bool {
        let accepted = token >= self.greatest;
        if accepted {
            (self.greatest, self.value) = (token, value);
        }
        accepted
    }
}

fn grows(last: Token, held: &Held) -> Token {
    assert!(held.token > last, "token {} was granted after {last}", held.token);
    held.token
}

fn token_of(state: Extended) -> Option<Token> {
    match state {
        Extended::Held(grant) => Some(grant.token),
        Extended::Queued(_) | Extended::Gone { .. } => None,
    }
}

async fn holders(peer: &Peer) -> Vec<Token> {
    peer.inspect("x").await.holders.iter().map(|holder| holder.token).collect()
}
