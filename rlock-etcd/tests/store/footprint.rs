//! The cost of operations on the servers, and their leftovers.

use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{SOON, Server, claim, extension, mutex, try_mutex};
use futures_util::future::{join_all, select_all};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use rlock_core::{
    Acquired, Backend as _, Baseline as _, Claim, Event, Extended, IfBusy, LockOptions, LossReason, Released, Share,
    SimpleLock,
};
use rlock_etcd::{EtcdBackend, EtcdBaseline};
use rlock_testkit::wait::{eventually, within};

/// The etcd lease of a namespace's epoch. It stays for an hour.
const EPOCHS: usize = 1;

/// The client proposals while a test acted.
#[derive(Debug)]
struct Cost {
    proposals: u64,
    /// The most of them that a busy machine can cause: a request without an answer for a second is sent again, and the
    /// etcd lease of such a claim is revoked and replaced.
    by_delay: u64,
}

impl Cost {
    fn is(&self, proposals: u64) -> bool {
        (proposals..=proposals + self.by_delay).contains(&self.proposals)
    }
}

async fn cost<T>(server: &Server, act: impl Future<Output = T>) -> (T, Cost) {
    let (before, begun) = (server.proposals(), Instant::now());
    let result = act.await;
    let (proposals, by_delay) = (server.proposals() - before, 4 * begun.elapsed().as_secs());
    (result, Cost { proposals, by_delay })
}

async fn hold(client: &EtcdBackend, claims: &[Claim]) {
    for answer in client.acquire(claims).await {
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
    }
}

async fn release(client: &EtcdBackend, claims: &[Claim]) {
    let leases: Vec<_> = claims.iter().map(|claim| claim.key.clone().into()).collect();
    for answer in client.release(&leases).await {
        assert!(matches!(answer, Ok(Released::Released)), "{answer:?}");
    }
}

async fn cycle(client: &EtcdBackend, claims: &[Claim]) {
    hold(client, claims).await;
    release(client, claims).await;
}

#[tokio::test]
async fn lock_and_release_cost_a_proposal_each() {
    let server = Server::start();
    let client = server.client().await;
    let (_, first) = cost(&server, cycle(&client, &[mutex("a", 0)])).await;
    assert!(first.is(3), "an etcd lease is granted, which later locks reuse: {first:?}");
    let ((), all) = cost(&server, async {
        for id in 1..=50 {
            cycle(&client, &[mutex("a", id)]).await;
        }
    })
    .await;
    assert!(all.is(2 * 50), "{all:?}");
}

#[tokio::test]
async fn try_writes_no_more_than_a_lock() {
    let server = Server::start();
    let (holder, other) = (server.client_in("n").await, server.client_in("n").await);
    cycle(&other, &[try_mutex("warm", 1)]).await;
    hold(&holder, &[mutex("a", 1)]).await;
    let revision = server.revision();
    let ((), refused) = cost(&server, async {
        for id in 2..102 {
            let answer = other.acquire(&[try_mutex("a", id)]).await.remove(0);
            assert!(matches!(answer, Ok(Acquired::Busy)), "{answer:?}");
        }
    })
    .await;
    assert_eq!((refused.proposals, server.revision()), (0, revision));

    release(&holder, &[mutex("a", 1)]).await;
    let ((), served) = cost(&server, cycle(&other, &[try_mutex("a", 2)])).await;
    assert!(served.is(2), "{served:?}");
}

#[tokio::test]
async fn extending_writes_nothing() {
    let server = Server::start();
    let client = server.client().await;
    let claims: Vec<_> = (0..100).map(|id| mutex(&format!("r{id}"), id)).collect();
    hold(&client, &claims).await;
    let extensions: Vec<_> = claims.iter().map(|claim| extension(claim.key.clone(), 30_000)).collect();
    let renewals = || server.metric("etcd_debugging_lease_renewed_total");
    let renewed_before = renewals();
    let ((), all) = cost(&server, async {
        for _ in 0..10 {
            for answer in client.extend(&extensions).await {
                assert!(matches!(answer, Ok(Extended::Held(_))), "{answer:?}");
            }
        }
    })
    .await;
    assert_eq!(all.proposals, 0);
    assert!(renewals() >= renewed_before + 10 * 100, "each extension has renewed the lease");
}

/// One proposal is the release, the other the note of the grant's time, some time later.
#[tokio::test]
async fn hand_over_costs_two_proposals_at_any_length() {
    let server = Server::start();
    for waiters in [2, 300] {
        let client = server.client().await;
        let mut events = client.events();
        hold(&client, &[mutex("a", 0)]).await;
        let claims: Vec<_> = (1..=waiters).map(|id| mutex("a", id)).collect();
        for answer in client.acquire(&claims).await {
            assert!(matches!(answer, Ok(Acquired::Queued(_))), "{answer:?}");
        }
        let revision = server.revision();
        let ((), all) = cost(&server, async {
            release(&client, &[mutex("a", 0)]).await;
            let event = within(SOON, "the grant", events.next()).await;
            assert!(matches!(event, Some(Event::Granted { .. })), "{event:?}");
            eventually(SOON, "the note", async || server.revision() >= revision + 2).await;
            // The other waiters have had the time for writes of their own.
            let extensions: Vec<_> = claims.iter().map(|claim| extension(claim.key.clone(), 30_000)).collect();
            let answers = client.extend(&extensions).await;
            let held = answers.iter().filter(|answer| matches!(answer, Ok(Extended::Held(_)))).count();
            let queued = answers.iter().filter(|answer| matches!(answer, Ok(Extended::Queued(_)))).count();
            assert_eq!((held, queued), (1, claims.len() - 1));
        })
        .await;
        assert!(all.is(2), "with {waiters} waiters: {all:?}");
        assert_eq!(server.revision(), revision + 2, "with {waiters} waiters");
    }
}

#[tokio::test]
async fn hand_over_without_notes_writes_once() {
    let server = Server::start();
    let client = EtcdBackend::connect(server.config("n").note_holds(false)).await.unwrap();
    let mut events = client.events();
    hold(&client, &[mutex("a", 0)]).await;
    let answer = client.acquire(&[mutex("a", 1)]).await.remove(0);
    assert!(matches!(answer, Ok(Acquired::Queued(_))), "{answer:?}");
    let revision = server.revision();
    release(&client, &[mutex("a", 0)]).await;
    let event = within(SOON, "the grant", events.next()).await;
    assert!(matches!(event, Some(Event::Granted { .. })), "{event:?}");
    // A client that notes grants does it before it watches the key of a later lease.
    hold(&client, &[mutex("b", 2)]).await;
    assert_eq!(server.delete("n/b/"), 1);
    let event = within(SOON, "the loss", events.next()).await;
    assert!(matches!(event, Some(Event::Broken { .. })), "{event:?}");
    assert_eq!(server.revision(), revision + 3, "the release, the other lease and its deletion");
}

#[tokio::test]
async fn a_batch_costs_one_proposal() {
    let server = Server::start();
    let client = server.client().await;
    let claims = |first| (first..first + 64).map(|id| mutex(&format!("r{id}"), id)).collect::<Vec<_>>();
    cycle(&client, &claims(0)).await;
    let claims = claims(64);
    let ((), claimed) = cost(&server, hold(&client, &claims)).await;
    let ((), released) = cost(&server, release(&client, &claims)).await;
    assert!(claimed.is(1) && released.is(1), "{claimed:?}, {released:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_locks_share_few_streams() {
    const LOCKS: usize = 10_000;
    const TTL: Duration = Duration::from_secs(20); // ten thousand take long on a busy machine
    let server = Server::start();
    let client = server.locks_in("many").await;
    let lock = async |number: usize| {
        let lock = SimpleLock::new(format!("r{number}"), &client).unwrap();
        lock.lock_with(LockOptions::new().ttl(TTL)).await.unwrap()
    };
    let guards: Vec<_> = stream::iter((0..LOCKS).map(lock)).buffer_unordered(500).collect().await;

    let lost = select_all(guards.iter().map(|guard| guard.lost().boxed()));
    if let Ok((reason, at, _)) = tokio::time::timeout(TTL * 4 / 3, lost).await {
        panic!("{} was lost: {reason}", guards[at].resource());
    }
    assert!(guards.iter().all(|guard| guard.is_held()));
    assert_eq!(server.keys("many/").len(), 1 + LOCKS);
    let opened = server.metric(r#"grpc_server_started_total{grpc_method="LeaseKeepAlive""#);
    // There are eight. A busy machine may let some be replaced.
    assert!((1..=100).contains(&opened), "{opened} streams");
    assert_eq!(server.metric("etcd_debugging_mvcc_watch_stream_total"), 1);
    let watched = server.metric("etcd_debugging_mvcc_watcher_total");
    assert!((LOCKS as u64..LOCKS as u64 + 10).contains(&watched), "{watched} watches");

    for released in join_all(guards.into_iter().map(|guard| guard.unlock())).await {
        released.unwrap();
    }
    assert_eq!(server.keys("many/"), ["many/"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_leaves_nothing_behind() {
    const TTL: Duration = Duration::from_secs(4);
    const LONGER: Duration = Duration::from_secs(6);
    let server = Server::start();
    let options = || LockOptions::new().ttl(TTL);
    {
        let (one, other) = (server.locks_in("n").await, server.locks_in("n").await);
        let waiting = SimpleLock::new("a", &other).unwrap();
        let guard = SimpleLock::new("a", &one).unwrap().lock_with(options()).await.unwrap();
        let waiter = tokio::spawn(async move { waiting.lock_with(options()).await.unwrap() });
        eventually(SOON, "the waiter", async || server.keys("n/a/").len() == 2).await;
        guard.extend(LONGER).await.unwrap();
        guard.unlock().await.unwrap();
        let guard = within(SOON, "the hand-over", waiter).await.unwrap();
        guard.extend(LONGER).await.unwrap();

        assert_eq!(one.break_leases(guard.resource()).await.unwrap(), 1);
        let reason = within(SOON, "the loss", guard.lost()).await;
        assert!(matches!(reason, LossReason::Broken | LossReason::Gone), "{reason}");
        drop(guard);
        SimpleLock::new("b", &one).unwrap().lock_with(options()).await.unwrap().unlock().await.unwrap();
    }
    assert_eq!(server.keys("n"), ["n/"]);
    eventually(SOON, "no lease is left", async || server.leases() == EPOCHS).await;
    assert_eq!(server.keys("n"), ["n/"]);
}

#[tokio::test]
async fn removed_namespace_leaves_no_lease() {
    let server = Server::start();
    let baseline = EtcdBaseline::connect(server.config("n")).await.unwrap();
    baseline.pair("a").await.unwrap();
    baseline.write_and_push().await.unwrap();
    assert_eq!(server.keys("n"), ["n/", "n/bare/push"]);
    baseline.clean_up().await.unwrap();
    assert_eq!((server.keys("n"), server.leases()), (Vec::new(), 0));
}

#[tokio::test]
async fn longer_extension_moves_a_lock_to_another_lease() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let claim = claim("a", 1, Share::EXCLUSIVE, 5_000, IfBusy::Queue);
    let answer = client.acquire(slice::from_ref(&claim)).await.remove(0);
    let Ok(Acquired::Held(grant)) = answer else { panic!("{answer:?}") };
    let front = "n/a/00000001/x0";
    assert_eq!(server.granted_ttl(front).await, Duration::from_secs(5));

    let granted = || server.metric("etcd_debugging_lease_granted_total");
    let before = granted();
    let answer = client.extend(&[extension(claim.key.clone(), 60_000)]).await.remove(0);
    let Ok(Extended::Held(longer)) = answer else { panic!("{answer:?}") };
    assert_eq!(longer.token, grant.token);
    assert!(longer.ttl > Duration::from_secs(50) && longer.ttl <= Duration::from_secs(60), "{:?}", longer.ttl);
    assert_eq!(server.granted_ttl(front).await, Duration::from_secs(60));
    assert_eq!(granted(), before + 1);

    let next = crate::support::claim("b", 2, Share::EXCLUSIVE, 5_000, IfBusy::Queue);
    hold(&client, &[next]).await;
    assert_eq!(granted(), before + 1, "another lock has the lease that became free");
    // No client extends the other lock: its key goes, and the lock that has moved stays.
    let only_one = async || server.keys("n/") == ["n/", front];
    eventually(SOON, "the end of the lock that is not extended", only_one).await;
}

#[tokio::test]
async fn ttl_is_raised_to_the_shortest_of_etcd() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let shortest = client.capabilities().min_ttl.get();
    assert_eq!(shortest, Duration::from_secs(1), "of this server");
    let is_raised = async || {
        let id = rand::random();
        let claim = claim(&format!("r{id}"), id, Share::EXCLUSIVE, 300, IfBusy::Queue);
        let Ok(Acquired::Held(grant)) = client.acquire(slice::from_ref(&claim)).await.remove(0) else { return false };
        assert!(grant.ttl <= shortest, "{:?}", grant.ttl);
        let is_longer = grant.ttl > Duration::from_millis(300);
        let granted = server.granted_ttl_if_there(&format!("n/r{id}/00000001/x0")).await;
        assert!(granted.is_none_or(|granted| granted == shortest), "{granted:?}");
        let Ok(Extended::Held(grant)) = client.extend(&[extension(claim.key, 300)]).await.remove(0) else {
            return false;
        };
        assert!(grant.ttl <= shortest, "{:?}", grant.ttl);
        is_longer && granted.is_some()
    };
    // On a busy machine the lease may end too soon.
    eventually(SOON, "a lease of a second that is seen", is_raised).await;
}

#[tokio::test]
async fn epoch_ends_after_the_last_use() {
    let server = Server::start();
    for (grace, kept_for) in [(0, 3_600), (1, 30 * 24 * 3_600)] {
        let namespace = format!("grace of {grace}");
        let config = server.config(&namespace).restart_grace(Duration::from_secs(grace)).unwrap();
        drop(EtcdBackend::connect(config).await.unwrap());
        assert_eq!(server.granted_ttl(&format!("{namespace}/")).await, Duration::from_secs(kept_for));
    }
}

/// Each may find no epoch, and grants an etcd lease for its own.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_come_together_leave_one_epoch() {
    let server = Server::start();
    drop(join_all((0..8).map(|_| server.client_in("n"))).await);
    // The spare etcd leases of the clients end with their TTL.
    eventually(SOON, "no other lease is left", async || server.leases() == EPOCHS).await;
}

/// Both etcd leases of a lock that moves from one to the other end with their TTLs.
#[test]
fn client_dropped_amid_extensions_leaves_nothing() {
    const LOCKS: usize = 200;
    let server = Server::start();
    for round in 0..6 {
        let done_before = rand::random_range(0..LOCKS);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let client = Arc::new(server.client_in("n").await);
            let id = |number: usize| (round * LOCKS + number) as u128;
            let claim =
                |number: usize| claim(&format!("r{number}"), id(number), Share::EXCLUSIVE, 2_000, IfBusy::Queue);
            let claims: Vec<_> = (0..LOCKS).map(claim).collect();
            hold(&client, &claims).await;
            let mut extending = FuturesUnordered::new();
            for claim in claims {
                let client = client.clone();
                let extend = async move { client.extend(&[extension(claim.key, 3_000)]).await };
                extending.push(tokio::spawn(extend));
            }
            for _ in 0..done_before {
                extending.next().await.unwrap().unwrap();
            }
            client
        });
        runtime.shutdown_background();
        drop(client);
        let gone_by = Instant::now() + SOON;
        while server.leases() > EPOCHS {
            assert!(Instant::now() < gone_by, "{} leases are left, {done_before} were extended", server.leases());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(server.keys("n"), ["n/"]);
    }
}
