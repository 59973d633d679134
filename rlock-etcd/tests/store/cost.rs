//! The cost of operations on the server, by its own metrics.

use std::slice;
use std::time::{Duration, Instant};

use crate::support::{SOON, Server, beside_a_crowd, claim, config_at, extension, leave_spares, mutex, revocations};
use futures_util::StreamExt as _;
use rlock_core::{Acquired, Backend as _, Claim, Event, Extended, IfBusy, LeaseKey, Share};
use rlock_etcd::EtcdBackend;
use rlock_testkit::faults::{Proxy, Way};
use rlock_testkit::wait::{eventually, within};

/// No lease ends while a cost is measured, even on a slow machine.
const LONG: u64 = 600_000;

/// The ranges that a server looked up, and the bytes that it sent to clients.
#[derive(Debug, Clone, Copy)]
struct Cost {
    ranges: u64,
    bytes: u64,
}

impl Cost {
    async fn of<T>(server: &Server, act: impl Future<Output = T>) -> Self {
        let now = || Self {
            ranges: server.metric("etcd_debugging_mvcc_range_total"),
            bytes: server.metric("etcd_network_client_grpc_sent_bytes_total"),
        };
        let before = now();
        act.await;
        let after = now();
        Self { ranges: after.ranges - before.ranges, bytes: after.bytes - before.bytes }
    }

    /// Allows for the cost of a short line that is read whole.
    fn is_about(self, other: Self) -> bool {
        self.ranges <= other.ranges + 8 && self.bytes <= other.bytes + 4_000
    }
}

async fn queue(client: &EtcdBackend, claims: &[Claim]) {
    for answer in client.acquire(claims).await {
        assert!(matches!(answer, Ok(Acquired::Queued(_))), "{answer:?}");
    }
}

async fn hold(client: &EtcdBackend, claim: &Claim) {
    let answer = client.acquire(slice::from_ref(claim)).await.remove(0);
    assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
}

async fn release(client: &EtcdBackend, key: &LeaseKey) {
    assert!(client.release(&[key.clone().into()]).await[0].is_ok());
}

/// Waits until no request is in flight: clients read again what changed while they began to watch it.
async fn quiet(server: &Server) {
    let counts =
        || ["etcd_debugging_mvcc_range_total", "etcd_debugging_mvcc_watcher_total"].map(|name| server.metric(name));
    let is_quiet = async || {
        let before = counts();
        tokio::time::sleep(Duration::from_millis(700)).await;
        counts() == before
    };
    eventually(3 * SOON, "the end of all requests", is_quiet).await;
}

/// The cost of joining a line, trying, waiting on, handing over and leaving, with `waiters` waiters.
async fn in_line(server: &Server, waiters: u128) -> Vec<(&'static str, Cost)> {
    let (client, crowd) = (server.client_in("n").await, server.client_in("n").await);
    let name = format!("with {waiters}");
    let claim = |id| claim(&name, id, Share::EXCLUSIVE, LONG, IfBusy::Queue);
    hold(&crowd, &claim(0)).await;
    let crowded: Vec<_> = (1..waiters).map(claim).collect();
    for some in crowded.chunks(100) {
        queue(&crowd, some).await;
    }
    // The first claim of a client finds out the number of spots.
    queue(&client, &[claim(waiters)]).await;
    quiet(server).await;
    let ours = [claim(waiters + 1), claim(waiters + 2)];
    let mut costs = vec![("joining", Cost::of(server, queue(&client, &ours[..1])).await)];
    quiet(server).await;
    let tried = Claim { if_busy: IfBusy::Refuse, ..claim(waiters + 3) };
    let refused = async {
        let answer = client.acquire(&[tried]).await.remove(0);
        assert!(matches!(answer, Ok(Acquired::Busy)), "{answer:?}");
    };
    costs.push(("a try", Cost::of(server, refused).await));
    let extend = async {
        let answer = client.extend(&[extension(ours[0].key.clone(), LONG)]).await.remove(0);
        assert!(matches!(answer, Ok(Extended::Queued(_))), "{answer:?}");
    };
    costs.push(("extending a waiter", Cost::of(server, extend).await));
    // If a stream was given up on a slow machine, the keys are watched again from here on.
    for some in crowded.chunks(100) {
        let extensions: Vec<_> = some.iter().map(|claim| extension(claim.key.clone(), LONG)).collect();
        assert!(crowd.extend(&extensions).await.iter().all(|answer| matches!(answer, Ok(Extended::Queued(_)))));
    }
    quiet(server).await;
    let mut events = crowd.events();
    let hand_over = async {
        release(&crowd, &claim(0).key).await;
        let event = within(SOON, "the grant", events.next()).await;
        assert!(matches!(event, Some(Event::Granted { .. })), "{event:?}");
        quiet(server).await;
    };
    costs.push(("a hand-over", Cost::of(server, hand_over).await));
    costs.push(("leaving", Cost::of(server, release(&client, &ours[0].key)).await));
    costs
}

#[tokio::test(flavor = "multi_thread")]
async fn long_line_costs_what_a_short_one_does() {
    let server = Server::start();
    let (few, many) = (in_line(&server, 2).await, in_line(&server, 1_000).await);
    for ((what, few), (_, many)) in few.into_iter().zip(many) {
        println!("{what}: {few:?} with 2 waiters, {many:?} with 1,000");
        assert!(many.is_about(few), "{what} costs {few:?} with 2 waiters, and {many:?} with 1,000");
    }
}

/// Every lease of a client that makes only one acquisition is at a key that existed before.
#[tokio::test]
async fn clients_of_one_lock_reuse_the_key() {
    let server = Server::start();
    for id in 0..20 {
        let client = server.client_in("n").await;
        hold(&client, &mutex("job", id)).await;
        assert_eq!(server.keys("n/job/"), ["n/job/00000001/x0"]);
        release(&client, &mutex("job", id).key).await;
    }
}

/// A range read of a line walks over its deleted spots: their number must be bounded, however often they are used.
#[tokio::test]
async fn contended_locks_use_a_bounded_set_of_keys() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let mut used = std::collections::HashSet::new();
    for round in 0..200 {
        let claims: Vec<_> = (0..4).map(|number| mutex("a", round * 4 + number)).collect();
        for claim in &claims {
            assert!(client.acquire(slice::from_ref(claim)).await[0].is_ok());
        }
        used.extend(server.keys("n/a/"));
        for claim in &claims {
            release(&client, &claim.key).await;
        }
    }
    assert!(used.len() <= 64, "{} keys", used.len());
}

/// Each client shares one lock and waits for another, once.
#[tokio::test]
async fn short_lived_sharers_and_waiters_reuse_keys() {
    const CLIENTS: u128 = 80;
    const SPOTS: usize = 64;
    let server = Server::start();
    let holder = server.client_in("n").await;
    let sharing = |id| claim("shared", id, Share::new(1, 4).unwrap(), LONG, IfBusy::Queue);
    let waiting = |id| claim("held", CLIENTS + 1 + id, Share::EXCLUSIVE, LONG, IfBusy::Queue);
    hold(&holder, &sharing(0)).await;
    hold(&holder, &waiting(0)).await;
    let mut used = ["n/shared/", "n/held/"].map(|front| (front, std::collections::HashSet::new()));
    for id in 1..=CLIENTS {
        let client = server.client_in("n").await;
        hold(&client, &sharing(id)).await;
        queue(&client, &[waiting(id)]).await;
        for (front, keys) in &mut used {
            keys.extend(server.keys(front));
        }
        release(&client, &sharing(id).key).await;
        release(&client, &waiting(id).key).await;
    }
    for (front, keys) in used {
        assert!(keys.len() <= SPOTS, "{} keys at {front}", keys.len());
    }
}

#[tokio::test]
async fn hundreds_that_share_are_judged_by_number() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let share = |weight| Share::new(weight, 1_000).unwrap();
    let shared = |id, weight| claim("a", id, share(weight), LONG, IfBusy::Queue);
    for first in [0, 100, 200] {
        let claims: Vec<_> = (first..first + 100).map(|id| shared(id, 1)).collect();
        for answer in client.acquire(&claims).await {
            assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
        }
    }
    hold(&client, &shared(300, 700)).await;
    for (id, weight) in [(301, 1), (302, 1_000), (303, 1)] {
        queue(&client, &[shared(id, weight)]).await; // claims of one batch have no order
    }
    for (id, is_held) in [(0, true), (299, true), (300, true), (301, false), (302, false), (303, false)] {
        let answer = client.extend(&[extension(shared(id, 1).key, LONG)]).await.remove(0);
        assert_eq!(matches!(answer, Ok(Extended::Held(_))), is_held, "{id}: {answer:?}");
        assert!(answer.is_ok());
    }
    let tried = claim("a", 304, share(1), LONG, IfBusy::Refuse);
    assert!(matches!(client.acquire(slice::from_ref(&tried)).await[0], Ok(Acquired::Busy)));
    let mut events = client.events();
    release(&client, &shared(7, 1).key).await;
    let event = within(SOON, "the grant", events.next()).await;
    let Some(Event::Granted { id, .. }) = event else { panic!("{event:?}") };
    assert_eq!(id.as_u128(), 301);
}

/// A count does not show how many permits they have, and the look at the line reads only a few of them.
#[tokio::test]
async fn try_finds_room_beside_many_large_leases() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let weighing = |id, weight, if_busy| claim("a", id, Share::new(weight, 300).unwrap(), LONG, if_busy);
    let held: Vec<_> = (0..70).map(|id| weighing(id, 2, IfBusy::Queue)).collect();
    for answer in client.acquire(&held).await {
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
    }
    let tries = [(161, false), (150, true), (11, false), (9, true), (1, true), (1, false)];
    for (id, (weight, fits)) in (70..).zip(tries) {
        let answer = client.acquire(&[weighing(id, weight, IfBusy::Refuse)]).await.remove(0);
        assert!(matches!(answer, Ok(Acquired::Held(_) | Acquired::Busy)), "{answer:?}");
        assert_eq!(matches!(answer, Ok(Acquired::Held(_))), fits, "{weight} more: {answer:?}");
    }
    queue(&client, &[weighing(76, 3, IfBusy::Queue)]).await;
    release(&client, &held[0].key).await;
    let answer = client.acquire(&[weighing(77, 1, IfBusy::Refuse)]).await.remove(0);
    assert!(matches!(answer, Ok(Acquired::Busy)), "it would overtake a waiter: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn try_counts_leases_beyond_one_answer() {
    let (_server, client, capacity) = beside_a_crowd().await;
    let tried = |id, weight| claim("crowd", id, Share::new(weight, capacity).unwrap(), LONG, IfBusy::Refuse);
    let refused = client.acquire(&[tried(2, 3)]).await.remove(0);
    assert!(matches!(refused, Ok(Acquired::Busy)), "{refused:?}");
    hold(&client, &tried(3, 2)).await;
}

/// The cost of a try that reads the permits of this many leases, and finds no room.
async fn refusal_beside(server: &Server, leases: u32) -> Cost {
    let (client, crowd) = (server.client_in("n").await, server.client_in("n").await);
    let name = format!("with {leases}");
    let weighing =
        |id: u32, weight, if_busy| claim(&name, id.into(), Share::new(weight, 3 * leases).unwrap(), LONG, if_busy);
    let held: Vec<_> = (0..leases).map(|id| weighing(id, 3, IfBusy::Queue)).collect();
    for some in held.chunks(100) {
        for answer in crowd.acquire(some).await {
            assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
        }
    }
    quiet(server).await;
    let refused = async {
        let answer = client.acquire(&[weighing(leases, 2, IfBusy::Refuse)]).await.remove(0);
        assert!(matches!(answer, Ok(Acquired::Busy)), "{answer:?}");
    };
    Cost::of(server, refused).await
}

#[tokio::test(flavor = "multi_thread")]
async fn try_reads_many_large_leases_at_once() {
    let server = Server::start();
    let (few, many) = (refusal_beside(&server, 20).await, refusal_beside(&server, 300).await);
    assert!(many.ranges <= few.ranges + 2, "it costs {few:?} beside 20 leases, and {many:?} beside 300");
}

/// Each waiter gets a spare etcd lease, whose life is restored by a keep-alive before the claim is answered.
#[tokio::test(flavor = "multi_thread")]
async fn spares_of_a_batch_are_restored_together() {
    const BATCH: u128 = 64;
    const LATENCY: Duration = Duration::from_millis(250);
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let config = config_at(proxy.url(), "n").timeout(SOON).unwrap();
    let (holder, client) = (server.client_in("n").await, EtcdBackend::connect(config).await.unwrap());
    let claims = |name: &str, first: u128| -> Vec<_> {
        (first..first + BATCH).map(|id| mutex(&format!("{name} {}", id % BATCH), id)).collect()
    };
    assert!(holder.acquire(&claims("busy", 0)).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    for (round, name, latency) in [(1, "busy", Duration::ZERO), (2, "free", Duration::ZERO), (3, "busy", LATENCY)] {
        let claims = claims(name, BATCH * round);
        // A spare that was restored within the last 100 ms joins the line with less than its full TTL.
        proxy.slow(latency);
        let begun = Instant::now();
        assert!(client.acquire(&claims).await.iter().all(Result::is_ok));
        let (took, singly) = (begun.elapsed(), LATENCY * 2 * BATCH as u32);
        assert!(took < singly / 2, "in round {round}: {took:?}, one after the other {singly:?}");
        proxy.slow(Duration::ZERO);
        let releases: Vec<_> = claims.into_iter().map(|claim| claim.key.into()).collect();
        assert!(client.release(&releases).await.iter().all(Result::is_ok));
    }
}

/// The tries have been sent before without an answer, and other clients hold their locks meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn refused_tries_end_their_etcd_leases_together() {
    const BATCH: u32 = 16;
    const LATENCY: Duration = Duration::from_millis(250);
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let config = config_at(proxy.url(), "n").timeout(SOON).unwrap();
    let (client, other) = (EtcdBackend::connect(config).await.unwrap(), server.client_in("n").await);
    let claims = |first: u32| -> Vec<_> {
        (first..first + BATCH).map(|id| mutex(&format!("r{}", id % BATCH), id.into())).collect()
    };
    leave_spares(&server, &client, BATCH).await;
    let ours = claims(0);
    proxy.stall(Way::ToClient);
    tokio::select! {
        answers = client.acquire(&ours) => panic!("{answers:?}"),
        () = eventually(SOON, "the keys", async || server.keys("n/r").len() == ours.len()) => {}
    }
    proxy.heal();
    server.delete("n/r");
    assert!(other.acquire(&claims(BATCH)).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
    let tries: Vec<_> = ours.into_iter().map(|claim| Claim { if_busy: IfBusy::Refuse, ..claim }).collect();
    let before = revocations(&server);
    proxy.slow(LATENCY);
    let begun = Instant::now();
    let answers = client.acquire(&tries).await;
    let (took, singly) = (begun.elapsed(), LATENCY * 2 * BATCH);
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Acquired::Busy))), "{answers:?}");
    assert!(took < singly / 2, "they take {took:?}, one after the other {singly:?}");
    let are_revoked = async || revocations(&server) >= before + u64::from(BATCH);
    eventually(SOON, "the end of the etcd leases", are_revoked).await;
}
