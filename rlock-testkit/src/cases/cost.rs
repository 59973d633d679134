//! Rule 12: the cost of an operation does not depend on what happened before, or on the number of holders and waiters.
//! Bytes between client and store are a measure of cost that works for every backend.

use rlock_core::{Claim, Extension};

use crate::faults::Proxy;
use crate::peer::{LONG, Peer, Shape, claim};
use crate::{Network, Stage};

/// Number of measurements of an operation.
const TRIES: usize = 5;

/// Operations, and the bytes that each takes.
type Costs = Vec<(&'static str, u64)>;

/// The cost of a lock does not grow after a thousand acquisitions and releases, beside a thousand other locks.
pub async fn history_costs_nothing(stage: &Stage, network: &Network) {
    let (behind, proxy) = network.proxied().await;
    let peer = behind.peer().await;
    let before = cycle(&peer, &proxy).await;
    let others: Vec<Claim> = (0..1_000).map(|number| claim(&format!("x/{number}"))).collect();
    let beside = stage.peer().await;
    for some in others.chunks(250) {
        beside.acquire(some).await;
    }
    for _ in 0..1_000 {
        let held = beside.hold(&claim("x")).await;
        beside.release(&held.key).await;
    }
    let after = cycle(&peer, &proxy).await;
    is_about("a cycle", before, after);
}

/// Joining a queue, a try, renewing a lease in the queue, leaving it and a hand-over cost the same with a few waiters
/// and with three hundred.
pub async fn queue_costs_nothing(stage: &Stage, network: &Network) {
    beside_few_and_many(stage, network, in_queue).await;
}

/// A claim, renewing several holders, a try that is refused and a release cost the same beside a few holders of one
/// permit each and beside three hundred.
pub async fn holders_cost_nothing(stage: &Stage, network: &Network) {
    beside_few_and_many(stage, network, among_holders).await;
}

/// Compares the costs for a client beside a few leases of another client, and beside three hundred.
async fn beside_few_and_many(
    stage: &Stage,
    network: &Network,
    costs: impl AsyncFn(&Peer, &Peer, &Proxy, usize) -> Costs,
) {
    let (behind, proxy) = network.proxied().await;
    let (peer, crowd) = (behind.peer().await, stage.peer().await);
    let few = costs(&peer, &crowd, &proxy, 2 * TRIES).await;
    let many = costs(&peer, &crowd, &proxy, 300).await;
    for ((what, few), (_, many)) in few.into_iter().zip(many) {
        is_about(what, few, many);
    }
}

async fn cycle(peer: &Peer, proxy: &Proxy) -> u64 {
    least(proxy, async || {
        let held = peer.hold(&claim("x")).await;
        peer.release(&held.key).await;
    })
    .await
}

/// The cost of each operation beside `waiters` waiters, or beside as many refused claims if the store has no queue.
async fn in_queue(peer: &Peer, crowd: &Peer, proxy: &Proxy, waiters: usize) -> Costs {
    let name = format!("with {waiters}");
    let holder = peer.hold(&claim(&name)).await.key;
    let waiting = |_| if peer.capabilities().queue { claim(&name).queued() } else { claim(&name) };
    let waiting: Vec<Claim> = (0..waiters).map(waiting).collect();
    for some in waiting.chunks(100) {
        crowd.acquire(some).await;
    }
    let refused = async || peer.try_claim(&claim(&name)).await;
    let mut costs = vec![("a try", least(proxy, refused).await)];
    if peer.capabilities().queue {
        let mut joined = Vec::new();
        let join = async || {
            joined.push(claim(&name).queued());
            peer.queue(&joined[joined.len() - 1]).await;
        };
        costs.push(("joining the queue", least(proxy, join).await));
        costs.push(("extending a waiter", least(proxy, async || peer.extend(&joined[0].key, LONG).await).await));
        let leave = async || peer.release(&joined.pop().expect("as many as have joined").key).await;
        costs.push(("leaving the queue", least(proxy, leave).await));
    }
    let extend = async || peer.extend(&holder, LONG).await;
    costs.push(("extending the holder", least(proxy, extend).await));
    let mut holders = std::iter::once(&holder).chain(waiting.iter().map(|claim| &claim.key));
    let hand_over = async || peer.release(holders.next().expect("there are more than tries")).await;
    if peer.capabilities().queue {
        costs.push(("a hand-over", least(proxy, hand_over).await));
    } else {
        costs.push(("a release", measure(proxy, hand_over).await));
    }
    crowd.release_all(&waiting.into_iter().map(|claim| claim.key).collect::<Vec<_>>()).await;
    costs
}

/// The cost of each operation beside `holders` holders of one permit each, such as readers.
async fn among_holders(peer: &Peer, crowd: &Peer, proxy: &Proxy, holders: usize) -> Costs {
    const CAPACITY: u32 = 1_000;
    let name = format!("beside {holders}");
    let permits = |weight: u32| claim(&name).weighing(weight, CAPACITY);
    for _ in 0..holders {
        crowd.hold(&permits(1)).await;
    }
    let mut entered = Vec::new();
    let enter = async || {
        entered.push(permits(1));
        peer.hold(&entered[entered.len() - 1]).await;
    };
    let mut costs = vec![("a granted try", least(proxy, enter).await)];
    if peer.capabilities().queue {
        let join = async || {
            entered.push(permits(1).queued());
            peer.hold(&entered[entered.len() - 1]).await;
        };
        costs.push(("a claim that may wait", least(proxy, join).await));
    }
    for (what, weight) in [("a refused writer", CAPACITY), ("a refused try", CAPACITY - 1)] {
        let refused = async || assert!(peer.try_claim(&permits(weight)).await.is_none(), "{what} was granted");
        costs.push((what, least(proxy, refused).await));
    }
    let extensions: Vec<Extension> =
        entered.iter().map(|claim| Extension { key: claim.key.clone(), ttl: claim.ttl }).collect();
    costs.push(("extending holders", least(proxy, async || peer.extend_all(&extensions).await).await));
    let leave = async || peer.release(&entered.pop().expect("as many as have entered").key).await;
    costs.push(("a release", least(proxy, leave).await));
    costs
}

/// The least number of bytes that `action` takes, which leaves out the occasional background traffic of a client.
async fn least<T>(proxy: &Proxy, mut action: impl AsyncFnMut() -> T) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..TRIES {
        least = least.min(measure(proxy, &mut action).await);
    }
    least
}

async fn measure<T>(proxy: &Proxy, mut action: impl AsyncFnMut() -> T) -> u64 {
    let before = proxy.passed();
    action().await;
    proxy.passed() - before
}

/// Allows for longer numbers, and for one packet more or less.
fn is_about(what: &str, before: u64, after: u64) {
    assert!(after <= before + before / 4 + 100, "{what} took {before} bytes at first, and {after} later");
}
