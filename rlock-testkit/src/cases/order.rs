//! Rule 2: leases are granted in the order in which they were queued.

use futures_util::future::join_all;
use rlock_core::{Claim, Extended, LeaseKey, RwLock};
use tokio::time::sleep;

use crate::Stage;
use crate::locking::{lock, lock_in_background, long, served, soon, unlock};
use crate::peer::{Peer, SOON, Shape, claim};
use crate::wait::eventually;

/// Waiters of one client are granted one by one, first come first served.
pub async fn fifo_among_waiters(stage: &Stage) {
    let peer = stage.peer().await;
    let mut holder = peer.hold(&claim("x")).await.key;
    let waiters = queue_up(&peer, (0..5).map(|_| claim("x"))).await;
    for (served, next) in waiters.iter().enumerate() {
        peer.release(&holder).await;
        assert!(peer.token(next).await.is_some(), "waiter {served} was passed over");
        for (ahead, later) in waiters[served + 1..].iter().enumerate() {
            assert_eq!(ahead_of(&peer, later).await, Some(ahead as u64), "waiter {served} has been granted");
        }
        holder = next.clone();
    }
}

/// Waiters of several clients are served in the order in which they came.
pub async fn fifo_across_clients(stage: &Stage) {
    let clients = join_all((0..3).map(|_| stage.client())).await;
    let guard = lock(&clients[0], "x").await;
    let (served_as, mut order) = tokio::sync::mpsc::unbounded_channel();
    let mut waiters = Vec::new();
    for (number, client) in clients.iter().cycle().take(9).enumerate() {
        let waiting = lock_in_background(client, "x");
        let served_as = served_as.clone();
        waiters.push(tokio::spawn(async move {
            let guard = served(waiting).await;
            served_as.send(number).expect("the case listens");
            unlock(guard).await;
        }));
        stage.sees_waiting(number + 1, "x").await;
    }
    unlock(guard).await;
    for expected in 0..9 {
        assert_eq!(order.recv().await, Some(expected), "a waiter was passed over");
    }
    join_all(waiters).await.into_iter().for_each(|waiter| waiter.expect("no waiter panics"));
}

/// A try that would fit is refused while a larger request waits that does not fit.
pub async fn try_does_not_overtake(stage: &Stage) {
    let (holder, waiter, other) = (stage.peer().await, stage.peer().await, stage.peer().await);
    let held = holder.hold(&claim("x").weighing(1, 2)).await;
    let both = claim("x").weighing(2, 2).queued();
    waiter.queue(&both).await;
    assert!(other.try_claim(&claim("x").weighing(1, 2)).await.is_none(), "a try overtook the queue");
    holder.release(&held.key).await;
    assert!(waiter.token(&both.key).await.is_some());
}

/// A reader that comes after a waiting writer is not granted beside the current readers.
pub async fn waiting_writer_blocks_new_readers(stage: &Stage) {
    let (one, other) = (stage.client().await, stage.client().await);
    let [first, second] = [&one, &other].map(|client| RwLock::new("x", client).expect("a good name"));
    let read = soon("read", first.read_with(long())).await;
    let writer = tokio::spawn({
        let second = second.clone();
        async move { second.write_with(long()).await }
    });
    stage.sees_waiting(1, "x").await;
    assert!(soon("read", first.try_read_with(long())).await.is_none(), "a reader overtook a writer");
    unlock(read).await;
    unlock(served(writer).await).await;
    assert!(soon("read", first.try_read_with(long())).await.is_some());
}

/// The readers between two writers are granted together, and the second writer after them.
pub async fn readers_behind_a_writer_are_granted_together(stage: &Stage) {
    let peer = stage.peer().await;
    let [read, write] = [1, 100].map(|weight| move || claim("x").weighing(weight, 100).queued());
    let first = peer.hold(&write()).await;
    let readers = queue_up(&peer, (0..3).map(|_| read())).await;
    let second = queue_up(&peer, [write()]).await.remove(0);
    peer.release(&first.key).await;

    let tokens = join_all(readers.iter().map(|reader| peer.token(reader))).await;
    assert!(tokens.iter().all(Option::is_some), "readers were left waiting: {tokens:?}");
    assert!(tokens.is_sorted(), "readers were granted out of order: {tokens:?}");
    assert_eq!(ahead_of(&peer, &second).await, Some(0));
    peer.release_all(&readers).await;
    assert!(peer.token(&second).await.is_some());
}

/// A hundred dead waiters delay the next one by one TTL, not by a hundred, and are skipped in one step.
pub async fn expired_waiters_are_skipped_together(stage: &Stage) {
    let (dead, peer) = (stage.peer().await, stage.peer().await);
    // A slow store takes a while to queue all of them.
    let life = stage.brisk() * 3;
    let first = dead.hold(&claim("x").living(life)).await;
    let waiters: Vec<Claim> = (0..100).map(|_| claim("x").living(life).queued()).collect();
    dead.acquire(&waiters).await;
    let live = queue_up(&peer, [claim("x")]).await.remove(0);
    sleep(life + stage.brisk()).await;
    let is_over = async || peer.inspect("x").await.holders.iter().all(|holder| holder.token != first.token);
    eventually(SOON, "the dead holder's TTL", is_over).await;
    let snapshot = peer.inspect("x").await;
    assert_eq!((snapshot.holders.len(), snapshot.queue.len()), (1, 0), "dead waiters are still queued");
    assert!(peer.token(&live).await.is_some(), "a dead waiter was granted");
}

/// Small requests never overtake a large one, however often they come.
pub async fn large_request_is_not_starved(stage: &Stage) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    let permits = |weight| claim("x").weighing(weight, 3);
    let mut holders = Vec::new();
    for _ in 0..3 {
        holders.push(peer.hold(&permits(1)).await.key);
    }
    let large = queue_up(&peer, [permits(3)]).await.remove(0);
    let small = queue_up(&other, [permits(1)]).await.remove(0);
    for (left, holder) in holders.iter().enumerate() {
        assert_eq!(peer.token(&large).await, None);
        assert_eq!(ahead_of(&other, &small).await, Some(1), "a small request overtook, with {left} permits free");
        assert!(other.try_claim(&permits(1)).await.is_none(), "a try overtook, with {left} permits free");
        peer.release(holder).await;
    }
    let token = peer.granted(SOON, &large).await;
    peer.release(&large).await;
    assert!(other.granted(SOON, &small).await > token);
}

/// Makes claims that have to queue, in this order.
async fn queue_up(peer: &Peer, claims: impl IntoIterator<Item = Claim>) -> Vec<LeaseKey> {
    let mut keys = Vec::new();
    for claim in claims.into_iter().map(Shape::queued) {
        let ahead = peer.queue(&claim).await;
        assert!(ahead >= keys.len() as u64, "{ahead} are in front of waiter {}", keys.len());
        keys.push(claim.key);
    }
    keys
}

async fn ahead_of(peer: &Peer, key: &LeaseKey) -> Option<u64> {
    match peer.state(key).await {
        Extended::Queued(place) => Some(place.ahead),
        Extended::Held(_) | Extended::Gone { .. } => None,
    }
}
