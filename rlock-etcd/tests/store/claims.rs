//! Claims that are sent again or get no answer, and the etcd leases that they are made with.

use std::collections::HashSet;
use std::slice;
use std::time::{Duration, Instant};

use crate::support::{SOON, Server, claim, config_at, extension, leave_spares, mutex, revocations, transactions};
use etcd_client::{GetOptions, PutOptions};
use futures_util::future::{join, join_all, join3};
use futures_util::{FutureExt as _, StreamExt as _};
use rlock_core::{Acquired, Backend as _, BackendError, Event, IfBusy, Release, Released, Share};
use rlock_etcd::EtcdBackend;
use rlock_testkit::faults::{Proxy, Way};
use rlock_testkit::wait::{eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn two_locks_never_share_a_lease_of_etcd() {
    let server = Server::start();
    let client = EtcdBackend::connect(server.config("n").timeout(SOON).unwrap()).await.unwrap();
    let mut admin = server.admin().await;
    for round in 0..20 {
        let short = |name: &str, id| claim(name, id, Share::EXCLUSIVE, 30_000, IfBusy::Queue);
        let moved = short("moved", round);
        assert!(matches!(client.acquire(slice::from_ref(&moved)).await[0], Ok(Acquired::Held(_))));
        let longer = async |secs| client.extend(&[extension(moved.key.clone(), secs * 1_000)]).await.remove(0);
        let release = async || client.release(&[moved.key.clone().into()]).await.remove(0);
        let (one, other, released) = join3(longer(60), longer(70 + round as u64), release()).await;
        assert!(one.is_ok() && other.is_ok() && released.is_ok(), "{one:?}, {other:?}, {released:?}");

        let names: Vec<_> = (0..4).map(|number| format!("r{number}")).collect();
        let claims: Vec<_> = names.iter().map(|name| short(name, rand::random())).collect();
        assert!(client.acquire(&claims).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
        let found = admin.get("n/r", Some(GetOptions::new().with_prefix())).await.unwrap();
        let leases: HashSet<_> = found.kvs().iter().map(etcd_client::KeyValue::lease).collect();
        assert_eq!(leases.len(), claims.len(), "in round {round}");
        let releases: Vec<_> = claims.into_iter().map(|claim| claim.key.into()).collect();
        assert!(client.release(&releases).await.iter().all(Result::is_ok));
    }
}

/// An extension attaches the key to another etcd lease after the release has begun, so the release has to look for it.
#[tokio::test(flavor = "multi_thread")]
async fn lease_returns_after_its_key_is_deleted() {
    const LATENCY: Duration = Duration::from_millis(150);
    const MOVED: &str = "n/moved/00000001/x0";
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let client = EtcdBackend::connect(config_at(proxy.url(), "n").timeout(SOON).unwrap()).await.unwrap();
    let admin = server.admin().await;
    let lease_of_moved = async || {
        let found = admin.clone().get(MOVED, None).await.unwrap();
        found.kvs().first().map(etcd_client::KeyValue::lease)
    };
    let minute = |name: &str| claim(name, rand::random(), Share::EXCLUSIVE, 60_000, IfBusy::Queue);
    // Its etcd lease is the one that the other lock should take.
    let spare = minute("spare");
    assert!(matches!(client.acquire(slice::from_ref(&spare)).await[0], Ok(Acquired::Held(_))));
    assert!(client.release(&[spare.key.into()]).await[0].is_ok());
    let is_taken_meanwhile = async || {
        let (moved, other) = (mutex("moved", rand::random()), minute("other"));
        assert!(matches!(client.acquire(slice::from_ref(&moved)).await[0], Ok(Acquired::Held(_))));
        let first = lease_of_moved().await;
        proxy.slow(LATENCY);
        let extensions = [extension(moved.key.clone(), 60_000)];
        let release = async {
            eventually(SOON, "the attachment", async || lease_of_moved().await != first).await;
            let before = transactions(&server);
            let acquire = async {
                // The first transaction has not met the key, and the second one looks for it.
                let looks = async || transactions(&server) >= before + 2 || lease_of_moved().await.is_none();
                eventually(SOON, "the search for the key", looks).await;
                client.acquire(slice::from_ref(&other)).await.remove(0)
            };
            join(client.release(&[moved.key.clone().into()]), acquire).await
        };
        let (_extended, (_released, acquired)) = join(client.extend(&extensions), release).await;
        proxy.heal();
        assert!(matches!(acquired, Ok(Acquired::Held(_))), "{acquired:?}");
        let found = admin.clone().get("n/other/00000001/x0", None).await.unwrap();
        let own = &found.kvs()[0];
        let then = GetOptions::new().with_revision(own.create_revision());
        let then = admin.clone().get(MOVED, Some(then)).await.unwrap();
        let releases = [moved.key.into(), other.key.into()];
        let are_released = async || client.release(&releases).await.iter().all(Result::is_ok);
        eventually(SOON, "the releases", are_released).await;
        let Some(moved) = then.kvs().first() else { return false };
        assert_ne!(moved.lease(), own.lease(), "two keys have one etcd lease");
        Some(moved.lease()) != first
    };
    // On a busy machine the release may have ended before the other lock is taken.
    eventually(SOON * 2, "a lock taken during the release", is_taken_meanwhile).await;
}

/// An extension attaches the key to another etcd lease while the release gets an etcd lease for the rest.
#[tokio::test(flavor = "multi_thread")]
async fn rest_begins_despite_a_concurrent_extension() {
    const LATENCY: Duration = Duration::from_millis(150);
    const REST: Duration = Duration::from_secs(600);
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let client = EtcdBackend::connect(config_at(proxy.url(), "n").timeout(SOON).unwrap()).await.unwrap();
    let is_moved_meanwhile = async || {
        let id: u128 = rand::random();
        let moved = mutex(&format!("r{id}"), id);
        assert!(matches!(client.acquire(slice::from_ref(&moved)).await[0], Ok(Acquired::Held(_))));
        let extensions = [extension(moved.key.clone(), 60_000)];
        let releases = [Release { key: moved.key, rest: REST }];
        let before = transactions(&server);
        proxy.slow(LATENCY);
        let release = async {
            eventually(SOON, "the extension", async || transactions(&server) > before).await;
            client.release(&releases).await.remove(0)
        };
        let (_extended, first) = join(client.extend(&extensions), release).await;
        proxy.heal();
        // As core does after an error.
        let is_released = async || client.release(&releases).await[0].is_ok();
        eventually(SOON, "the release", is_released).await;
        assert_eq!(server.keys(&format!("n/r{id}/")).len(), 1, "the resource does not rest");
        matches!(first, Err(BackendError::NotApplied(_)))
    };
    // On a busy machine the extension may come before or after the release.
    eventually(SOON * 2, "an extension during the release", is_moved_meanwhile).await;
}

/// The connection stalls after the deletion of the keys, before the etcd lease of the claim that was sent twice ends.
#[tokio::test(flavor = "multi_thread")]
async fn release_outlasts_a_stalled_revocation() {
    const LATENCY: Duration = Duration::from_millis(200);
    const LIMIT: Duration = Duration::from_secs(3);
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let client = EtcdBackend::connect(config_at(proxy.url(), "n").timeout(SOON).unwrap()).await.unwrap();
    leave_spares(&server, &client, 1).await;
    let claims = [mutex("a", 1), mutex("b", 2)];
    proxy.strand();
    for claim in &claims {
        let held = client.acquire(slice::from_ref(claim)).await.remove(0);
        assert!(matches!(held, Ok(Acquired::Held(_))), "{held:?}");
    }
    let releases: [Release; 2] = claims.map(|claim| claim.key.into());
    proxy.slow(LATENCY);
    let stall = async {
        eventually(SOON, "the deletion", async || server.keys("n/a/").is_empty()).await;
        proxy.stall(Way::ToServer);
        Instant::now()
    };
    let (answers, stalled) = join(client.release(&releases), stall).await;
    assert!(stalled.elapsed() < LIMIT, "the releases take {:?}", stalled.elapsed());
    for answer in answers {
        assert!(matches!(answer, Ok(Released::Released)), "{answer:?}");
    }
}

/// The claim is sent twice. Then its key is deleted, and the client claims the lock again by the same id.
#[tokio::test]
async fn next_claim_follows_the_end_of_the_last() {
    const KEY: &str = "n/a/00000001/x0";
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let client = EtcdBackend::connect(config_at(proxy.url(), "n").timeout(SOON).unwrap()).await.unwrap();
    let mut admin = server.admin().await;
    let is_claimed_again = async || {
        leave_spares(&server, &client, 2).await;
        let claim = mutex("a", rand::random());
        proxy.strand();
        let held = client.acquire(slice::from_ref(&claim)).await.remove(0);
        assert!(matches!(held, Ok(Acquired::Held(_))), "{held:?}");
        let mut events = client.events();
        let lease = admin.get(KEY, None).await.unwrap().kvs()[0].lease();
        // This key shows whether the etcd lease still exists.
        admin.put("probe", "", Some(PutOptions::new().with_lease(lease))).await.unwrap();
        server.delete(KEY);
        let again = client.acquire(slice::from_ref(&claim)).await.remove(0);
        assert!(matches!(again, Ok(Acquired::Held(_))), "{again:?}");
        let created = admin.get(KEY, None).await.unwrap().kvs()[0].create_revision();
        let then = admin.get("probe", Some(GetOptions::new().with_revision(created))).await.unwrap();
        assert!(client.release(&[claim.key.into()]).await[0].is_ok());
        let mut is_broken = false;
        while let Some(Some(event)) = events.next().now_or_never() {
            is_broken |= matches!(event, Event::Broken { .. });
        }
        assert!(is_broken || then.kvs().is_empty(), "the first request may still be carried out");
        !is_broken
    };
    // On a busy machine the watch reports the deletion first.
    eventually(SOON * 2, "a claim after the deletion", is_claimed_again).await;
}

/// A copy of the first request may arrive later still. It has no effect once its etcd lease has ended.
#[tokio::test(flavor = "multi_thread")]
async fn repeated_claim_ends_its_first_etcd_lease() {
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let config = config_at(proxy.url(), "n").timeout(SOON).unwrap();
    let (client, other) = (EtcdBackend::connect(config).await.unwrap(), server.client_in("n").await);
    assert!(matches!(other.acquire(&[mutex("a", 1)]).await[0], Ok(Acquired::Held(_))));
    leave_spares(&server, &client, 1).await;
    // The claim takes the spare etcd lease, and gets no answer.
    let claims = [mutex("a", 3)];
    let before = transactions(&server);
    proxy.stall(Way::ToClient);
    tokio::select! {
        answers = client.acquire(&claims) => panic!("{answers:?}"),
        () = eventually(SOON, "the claim", async || transactions(&server) > before) => {}
    }
    proxy.heal();
    let before = revocations(&server);
    let repeated = client.acquire(&claims).await.remove(0);
    assert!(matches!(repeated, Ok(Acquired::Queued(_))), "{repeated:?}");
    assert!(revocations(&server) > before, "the first request may still be carried out");
}

/// The servers carry the claims out, and the client gets no answer. Then an etcd lease ends, and the error of the next
/// request does not say which one.
#[tokio::test(flavor = "multi_thread")]
async fn claims_are_granted_after_one_etcd_lease_ended() {
    const KEYS: [&str; 2] = ["n/a/00000001/x0", "n/b/00000001/x0"];
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let client = EtcdBackend::connect(config_at(proxy.url(), "n").timeout(SOON).unwrap()).await.unwrap();
    leave_spares(&server, &client, 2).await;
    let admin = server.admin().await;
    let leases = async || {
        let mut leases = Vec::new();
        for key in KEYS {
            let found = admin.clone().get(key, None).await.unwrap();
            leases.extend(found.kvs().iter().map(etcd_client::KeyValue::lease));
        }
        leases
    };
    let claims = [mutex("a", 1), mutex("b", 2)];
    proxy.stall(Way::ToClient);
    tokio::select! {
        answers = client.acquire(&claims) => panic!("{answers:?}"),
        () = eventually(SOON, "the keys", async || leases().await.len() == 2) => {}
    }
    let first = leases().await;
    server.admin().await.lease_revoke(first[0]).await.unwrap();
    proxy.heal();
    for answer in client.acquire(&claims).await {
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
    }
    let now = leases().await;
    assert_eq!(now.len(), 2, "a lock has no key");
    assert!(now.iter().all(|lease| !first.contains(lease)), "{now:?}, at first {first:?}");
    let living = server.admin().await.leases().await.unwrap();
    assert!(living.leases().iter().all(|lease| lease.id() != first[1]), "the first request may still be carried out");
}

/// The claim has written its key, and the read of its place in the line gets no answer.
#[tokio::test(flavor = "multi_thread")]
async fn claim_without_a_known_place_keeps_its_key() {
    const LATENCY: Duration = Duration::from_millis(200);
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let config = config_at(proxy.url(), "n");
    let (client, crowd) = (EtcdBackend::connect(config).await.unwrap(), server.client_in("n").await);
    let lasting = |id| claim("a", id, Share::EXCLUSIVE, 600_000, IfBusy::Queue);
    // The answer to a claim contains only a part of this line.
    for id in 0..10 {
        assert!(crowd.acquire(&[lasting(id)]).await[0].is_ok());
    }
    for id in 10.. {
        let claims = [lasting(id)];
        proxy.slow(LATENCY);
        let hold_back_the_read = async {
            eventually(SOON, "the key", async || server.keys("n/a/").len() == 11).await;
            proxy.stall(Way::ToServer);
        };
        let (answers, ()) = join(client.acquire(&claims), hold_back_the_read).await;
        proxy.heal();
        if matches!(answers[0], Err(BackendError::Unknown(_))) {
            let is_queued = async || matches!(client.acquire(&claims).await[0], Ok(Acquired::Queued(_)));
            eventually(SOON, "the place", is_queued).await;
            assert_eq!(server.keys("n/a/").len(), 11, "the claim has written another key");
            return;
        }
        // On a busy machine the read was answered before it could be held back.
        let left = async || client.release(&[claims[0].key.clone().into()]).await[0].is_ok();
        eventually(SOON, "the release", left).await;
    }
}

/// The release comes between two requests of the claim.
#[tokio::test(flavor = "multi_thread")]
async fn claim_released_on_its_way_shares_no_lease() {
    const LATENCY: Duration = Duration::from_millis(200);
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let config = config_at(proxy.url(), "n").timeout(SOON).unwrap();
    let (client, crowd) = (EtcdBackend::connect(config).await.unwrap(), server.client_in("n").await);
    let lasting = |name: &str, id| claim(name, id, Share::EXCLUSIVE, 600_000, IfBusy::Queue);
    for id in 0..10 {
        assert!(crowd.acquire(&[lasting("a", id)]).await[0].is_ok());
    }
    drop(crowd); // it would send transactions of its own
    let claims = [lasting("a", 10)];
    let before = transactions(&server);
    proxy.slow(LATENCY);
    let release = async {
        // The first one finds a part of the line, and the second one counts its leases.
        eventually(SOON, "two transactions", async || transactions(&server) >= before + 2).await;
        client.release(&[claims[0].key.clone().into()]).await
    };
    let (_one_of_many, _none_so_far) = join(client.acquire(&claims), release).await;
    proxy.heal();
    let other = client.acquire(&[lasting("other", 11)]).await.remove(0);
    assert!(matches!(other, Ok(Acquired::Held(_))), "{other:?}");
    let mut admin = server.admin().await;
    let found = admin.get("n/", Some(GetOptions::new().with_prefix())).await.unwrap();
    let leases: HashSet<_> = found.kvs().iter().map(etcd_client::KeyValue::lease).collect();
    assert_eq!(leases.len(), found.kvs().len(), "two keys have one etcd lease");
}

/// Other clients join and leave the line between each look at it and the claim that follows.
#[tokio::test(flavor = "multi_thread")]
async fn try_in_a_changing_line_ends() {
    const LATENCY: Duration = Duration::from_millis(100);
    let server = Server::start();
    let proxy = Proxy::in_front_of(server.url());
    let config = config_at(proxy.url(), "n").timeout(LATENCY * 8).unwrap();
    let (client, other) = (EtcdBackend::connect(config).await.unwrap(), server.client_in("n").await);
    let permit = |if_busy| claim("a", rand::random(), Share::new(1, 1_000).unwrap(), 30_000, if_busy);
    let change = async || {
        let mut before = permit(IfBusy::Queue);
        loop {
            let next = permit(IfBusy::Queue);
            let _one_of_many = other.acquire(slice::from_ref(&next)).await;
            let _first_has_none_before = other.release(&[before.key.into()]).await;
            before = next;
        }
    };
    let is_refused = async || {
        let tried = permit(IfBusy::Refuse);
        let answer = within(SOON, "an answer", client.acquire(slice::from_ref(&tried))).await.remove(0);
        // On a busy machine the others are slow, and the try succeeds.
        let _succeeded = client.release(&[tried.key.into()]).await;
        answer.is_err_and(|error| error.to_string().contains("other clients kept joining the line"))
    };
    proxy.slow(LATENCY);
    tokio::select! {
        () = eventually(SOON * 2, "a refusal", is_refused) => {}
        _ = join_all((0..4).map(|_| change())) => unreachable!("they never end"),
    }
}
