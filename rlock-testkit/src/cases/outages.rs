//! Promise 3: a short outage loses no lock. Promise 2 and rule 15: a store that has restarted frees no lock, and reports
//! those that it has lost.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rlock_core::{Acquired, Extended, Extension, Guard, LockOptions, LossReason, SimpleLock};
use tokio::time::{sleep, timeout};

use crate::faults::{Control, Data, Way};
use crate::locking::{lock, lock_as, lock_in_background, lock_numbered, served, unlock};
use crate::peer::{LONG, SOON, claim, ttl};
use crate::wait::{eventually, within};
use crate::{Network, Remotes, Stage};

/// Far shorter than the life of the leases that are not renewed here.
const PROMPT: Duration = Duration::from_secs(5);

/// A store that is paused for half a TTL costs no holder its lock, and no waiter its position. A sixth of the TTL is
/// left for stopping and waking the servers, and for the renewals after that.
pub async fn short_outage_loses_nothing(stage: &Stage, server: &dyn Control, _: &Remotes) {
    let (client, other) = (stage.client().await, stage.client().await);
    let ttl = stage.patient() * 2;
    let guards = join_all((0..20).map(|number| lock_numbered(&client, number, ttl))).await;
    let waiter = SimpleLock::new("0", &other).expect("a valid name");
    let waiting = tokio::spawn(async move { waiter.lock_with(LockOptions::new().ttl(ttl)).await });
    stage.sees_waiting(1, "0").await;
    for _ in 0..2 {
        server.pause().await;
        sleep(ttl / 2).await;
        server.resume().await;
        sleep(ttl).await;
    }
    let lost: Vec<_> = guards.iter().filter(|guard| !guard.is_held()).collect();
    assert!(lost.is_empty(), "{lost:?}");
    stage.sees_waiting(1, "0").await;
    for guard in guards {
        unlock(guard).await;
    }
    unlock(served(waiting).await).await;
}

/// A holder whose connections are reset over and over keeps its lock, and can acquire others.
pub async fn connection_killed(stage: &Stage, network: &Network) {
    let (behind, proxy) = network.proxied().await;
    let (client, peer) = (behind.client().await, behind.peer().await);
    let ttl = stage.patient();
    let guard = lock_as(&client, "x", LockOptions::new().ttl(ttl)).await;
    let begun = Instant::now();
    while begun.elapsed() < ttl * 3 / 2 {
        proxy.reset();
        unlock(lock(&client, "y").await).await;
        sleep(ttl / 10).await;
    }
    peer.is_reached().await;
    assert!(guard.is_held(), "{:?}", guard.loss());
    assert_eq!(peer.inspect("x").await.holders[0].token, guard.token());
    unlock(guard).await;
}

/// A holder whose connections died silently keeps its lock, if it can open new ones.
pub async fn dead_connection_is_replaced(stage: &Stage, network: &Network) {
    let (behind, proxy) = network.proxied().await;
    let client = behind.client().await;
    let ttl = stage.patient() * 2;
    let guard = lock_as(&client, "x", LockOptions::new().ttl(ttl)).await;
    for _ in 0..2 {
        proxy.lose(Way::Both);
        let dead = timeout(ttl / 20, client.inspect("x")).await;
        assert!(dead.is_err(), "the connection lives: {dead:?}");
        proxy.heal();
        sleep(ttl).await;
        assert!(guard.is_held(), "{:?}", guard.loss());
    }
    unlock(guard).await;
}

/// After a store is killed and restarted, with or without its data, never two holders both believe in a lock.
pub async fn store_restart_never_two(stage: &Stage, server: &dyn Control, _: &Remotes) {
    const LOCKS: usize = 20;
    let begun = Instant::now();
    server.restart(Data::Lost).await;
    let ttl = stage.patient().max(begun.elapsed() * 2); // a cluster takes seconds to restart
    let (holder, waiter) = (stage.client().await, stage.client().await);
    for data in [Data::Kept, Data::Lost, Data::Lost] {
        let guards = join_all((0..LOCKS).map(|number| lock_numbered(&holder, number, ttl))).await;
        let waiters: Vec<_> = (0..LOCKS / 2).map(|number| lock_in_background(&waiter, &number.to_string())).collect();
        for number in 0..LOCKS / 2 {
            stage.sees_waiting(1, &number.to_string()).await;
        }
        if data == Data::Kept {
            sleep(ttl).await; // so that only renewals keep the leases alive
        }
        server.restart(data).await;
        let newcomer = stage.client().await;
        let newcomers = (LOCKS / 2..LOCKS).map(|number| lock_in_background(&newcomer, &number.to_string()));
        let waiters = waiters.into_iter().chain(newcomers);
        if data == Data::Kept {
            sleep(ttl).await;
            assert!(guards.iter().all(Guard::is_held), "{guards:?}");
            join_all(guards.into_iter().map(unlock)).await;
            join_all(waiters.map(|waiting| async { unlock(served(waiting).await).await })).await;
            continue;
        }
        let next = guards.iter().zip(waiters).map(|(old, waiting)| async move {
            let next = served(waiting).await;
            assert!(!old.is_held(), "two holders believe in {:?} after the store lost its data", old.resource());
            assert!(next.token() > old.token(), "token {} was granted after {}", next.token(), old.token());
            unlock(next).await;
        });
        join_all(next).await;
    }
}

/// A store that restarts with its data refuses a held lock to every other client, and not to its holder.
pub async fn restarted_store_frees_nothing(stage: &Stage, server: &dyn Control, _: &Remotes) {
    let (holder, other) = (stage.peer().await, stage.peer().await);
    let held = claim("x");
    let is_granted = async || matches!(holder.ask(&held).await, Ok(Acquired::Held(_)));
    eventually(SOON, "a grant of a new server", is_granted).await;
    let extension = [Extension { key: held.key.clone(), ttl: ttl(LONG) }];
    for _ in 0..2 {
        server.restart(Data::Kept).await;
        let is_answered = async || match holder.backend().extend(&extension).await.remove(0) {
            Ok(Extended::Held(_)) => true,
            Err(_) => false,
            wrong => panic!("the holder was denied its lock: {wrong:?}"),
        };
        eventually(SOON, "the store", is_answered).await;
        let is_refused = async || match other.ask(&claim("x")).await {
            Ok(Acquired::Busy) => true,
            Err(_) => false,
            wrong => panic!("another client got {wrong:?}"),
        };
        eventually(SOON, "a refusal", is_refused).await;
    }
}

/// A waiter continues to wait when the store is killed and restarted, with or without its data, and gets the lock.
pub async fn waiter_recovers_from_restart(stage: &Stage, server: &dyn Control, _: &Remotes) {
    let (holder, waiter) = (stage.client().await, stage.client().await);
    for data in [Data::Kept, Data::Lost] {
        // A long TTL, because the time that a server takes to start has no bound.
        let guard = lock_as(&holder, "x", LockOptions::new().ttl(LONG)).await;
        let waiting = lock_in_background(&waiter, "x");
        stage.sees_waiting(1, "x").await;
        server.kill().await;
        sleep(Duration::from_millis(200)).await;
        assert!(!waiting.is_finished(), "a waiter gave up");
        server.restart(data).await;
        if data == Data::Kept {
            unlock(guard).await;
        }
        unlock(served(waiting).await).await;
    }
}

/// A holder whose lease is missing from the store, as after a failover that lost writes, learns of it as soon as the
/// store answers, not only by the deadline. The tokens after it are greater.
pub async fn failover_loss_is_reported(stage: &Stage, server: &dyn Control, _: &Remotes) {
    let (holder, other) = (stage.client().await, stage.client().await);
    let guard = lock(&holder, "x").await;
    server.restart(Data::Lost).await;
    let reason = within(PROMPT, "the news of the loss", guard.lost()).await;
    assert!(matches!(reason, LossReason::Gone | LossReason::TakenOver), "{reason:?}");
    assert!(guard.remaining().is_zero());
    let next = lock(&other, "x").await;
    assert!(next.token() > guard.token(), "token {} was granted after {}", next.token(), guard.token());
}
