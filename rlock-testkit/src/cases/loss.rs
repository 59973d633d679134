//! Promises 1, 2, 6 and 7: the loss of a lock is signalled by its deadline under every fault, and stops the work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use rlock_core::{Guard, LockOptions, LossReason, Ttl};
use tokio::runtime::Builder;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::faults::{Control, Fault, Faults, Proxy, Verb, Way};
use crate::locking::{
    lock, lock_as, lock_in_background, lock_numbered, mutex, served, soon, try_lock, unlock, unwatched,
};
use crate::peer::SOON;
use crate::wait::{eventually, within};
use crate::{Network, Remotes, Stage};

/// A lock whose grant took most of its TTL to arrive counts from the instant of the request, and is renewed in time.
pub async fn late_grant_is_extended_in_time(stage: &Stage) {
    let faults = Faults::none();
    let (client, other) = (stage.faulty_client(&faults).await, stage.client().await);
    let ttl = stage.patient();
    faults.next(Verb::Acquire, Fault::Delay(ttl * 85 / 100));
    let guard = lock_as(&client, "x", LockOptions::new().ttl(ttl)).await;
    sleep(ttl).await;
    assert!(guard.is_held(), "{:?}", guard.loss());
    assert!(try_lock(&other, "x").await.is_none());
    unlock(guard).await;
}

/// A holder whose connections are cut and refused learns of its loss before another client can acquire the lock.
pub async fn partition_signals_before_the_ttl(stage: &Stage, network: &Network) {
    is_signalled_first(stage, network, "x", Proxy::cut).await;
}

/// A holder whose connections died silently, both ways or one way, learns of its loss before another client can acquire
/// the lock.
pub async fn half_open_connection_signals_too(stage: &Stage, network: &Network) {
    let ways = [("both", Way::Both), ("to the server", Way::ToServer), ("to the client", Way::ToClient)];
    join_all(ways.map(|(name, way)| is_signalled_first(stage, network, name, move |proxy| proxy.lose(way)))).await;
}

async fn is_signalled_first(stage: &Stage, network: &Network, name: &str, spoil: impl FnOnce(&Proxy)) {
    let (behind, proxy) = network.proxied().await;
    let (client, other) = (behind.client().await, stage.client().await);
    let options = LockOptions::new().ttl(stage.patient());
    let guard = lock_as(&client, name, options).await;
    let waiting = lock_in_background(&other, name);
    stage.sees_waiting(1, name).await;

    let (signals, oversleeping) = (Signals::of([&guard]), Oversleeping::watch());
    spoil(&proxy);
    let limit = stage.patient() * 3 + SOON;
    let next = within(limit, "the lost holder's TTL", served(waiting)).await;
    let granted = Instant::now();
    assert!(!guard.is_held(), "two holders believe in the lock");
    let (at, reason) = signals.all(SOON).await.remove(0);
    assert_eq!(reason, LossReason::Expired);
    let late = at.saturating_duration_since(granted);
    assert!(late <= oversleeping.worst(), "the loss was signalled {late:?} after the next holder had the lock");
    assert!(next.token() > guard.token());
    unlock(next).await;
}

/// While the store is frozen, every holder gets the signal by its deadline, and the loss stays when the store
/// continues.
pub async fn frozen_store(stage: &Stage, server: &dyn Control, _: &Remotes) {
    let (client, other) = (stage.client().await, stage.client().await);
    let ttl = Ttl::new(stage.patient()).expect("a valid TTL");
    let guards = join_all((0..20).map(|number| lock_numbered(&client, number, ttl.get()))).await;
    sleep(ttl.get() / 2).await;
    server.pause().await;
    let (signals, oversleeping) = (Signals::of(&guards), Oversleeping::watch());
    let begun = Instant::now();
    let mut deadlines = vec![begun; guards.len()];
    while begun.elapsed() < ttl.get() * 2 {
        // A reply in flight may still arrive, and move the deadline.
        for (deadline, guard) in deadlines.iter_mut().zip(&guards).filter(|(_, guard)| guard.is_held()) {
            *deadline = Instant::now() + guard.remaining();
        }
        sleep(Oversleeping::MOMENT).await;
    }
    for (deadline, (at, reason)) in deadlines.into_iter().zip(signals.all(Duration::ZERO).await) {
        assert_eq!(reason, LossReason::Expired);
        let late = at.saturating_duration_since(deadline);
        let allowed = ttl.margin() + oversleeping.worst();
        assert!(late <= allowed, "a holder was notified {late:?} after its deadline, {allowed:?} are allowed");
    }
    server.resume().await;
    stage.peer().await.is_reached().await;
    assert!(guards.iter().all(|guard| guard.loss() == Some(LossReason::Expired)), "{guards:?}");
    let next = join_all((0..20).map(|number| lock_numbered(&other, number, ttl.get()))).await;
    assert!(next.iter().zip(&guards).all(|(next, old)| next.token() > old.token()));
    assert!(next.iter().all(Guard::is_held), "an extension of a lost lock hit the next holder: {next:?}");
}

/// A process that was frozen for longer than its lease knows of the loss when it wakes, before it does anything else.
pub async fn frozen_process_knows_on_waking(stage: &Stage, remotes: &Remotes) {
    let client = stage.client().await;
    let mut remote = remotes.start();
    // Without a watchdog, because its next renewal would report the loss as well.
    let token = remote.lock_unwatched("x", stage.brisk()).await;
    assert!(remote.believes().await);
    let waiting = lock_in_background(&client, "x");
    stage.sees_waiting(1, "x").await;
    remote.pause();
    let guard = within(stage.brisk() + SOON, "the frozen holder's TTL", served(waiting)).await;
    assert!(guard.token().get() > token);
    remote.ask_belief();
    remote.resume();
    assert!(!remote.heard_belief().await, "a woken holder believes in a lock that another client has");
    assert!(!remote.believes().await);
    assert!(guard.is_held());
    unlock(guard).await;
}

/// A lock that was lost in a partition stays lost after it, and no delayed request affects the next holder.
pub async fn healed_partition_does_not_revive(stage: &Stage, network: &Network) {
    let (behind, proxy) = network.proxied().await;
    let (client, other) = (behind.client().await, stage.client().await);
    let lost = lock_as(&client, "x", LockOptions::new().ttl(stage.brisk())).await;
    proxy.stall(Way::Both);
    let guard = within(stage.brisk() * 3 + SOON, "the lost holder's TTL", lock(&other, "x")).await;
    proxy.heal();
    behind.peer().await.is_reached().await;
    assert_eq!(lost.loss(), Some(LossReason::Expired));
    assert!(lost.extend(SOON).await.is_err());
    sleep(stage.brisk()).await;
    assert!(lost.unlock().await.is_err());
    assert!(guard.is_held());
    assert_eq!(stage.peer().await.inspect("x").await.holders[0].token, guard.token());
    let waiting = lock_in_background(&client, "x");
    stage.sees_waiting(1, "x").await;
    unlock(guard).await;
    unlock(served(waiting).await).await;
}

/// A lost lock stays lost, with the reason of its loss, under every later event.
pub async fn loss_is_final_and_has_a_reason(stage: &Stage) {
    let (client, other, peer) = (stage.client().await, stage.client().await, stage.peer().await);
    let expired = lock_as(&client, "x", unwatched(stage.short())).await;
    assert_eq!(within(stage.short() + SOON, "the loss", expired.lost()).await, LossReason::Expired);
    peer.sees_free("x").await;

    let broken = lock_as(&client, "y", LockOptions::new().ttl(stage.brisk())).await;
    assert_eq!(soon("a break", other.break_leases("y")).await, 1);
    let reason = within(stage.brisk() + SOON, "the loss", broken.lost()).await;
    assert!(matches!(reason, LossReason::Broken | LossReason::Gone), "{reason:?}");

    for (guard, reason) in [(expired, LossReason::Expired), (broken, reason)] {
        let name = guard.resource().to_string();
        let next = lock(&client, &name).await;
        assert!(guard.extend(SOON).await.is_err());
        assert!(guard.start_watchdog(rlock_core::WatchdogConfig::default()).is_err());
        assert_eq!(guard.loss(), Some(reason));
        assert_eq!(guard.check().expect_err("it is lost").reason, reason);
        assert!(guard.remaining().is_zero());
        assert!(guard.unlock().await.is_err());
        assert!(next.is_held());
        assert!(try_lock(&other, &name).await.is_none(), "the lost guard's unlock hit the next holder");
    }
}

/// A subscriber that comes after the loss sees it at once, through every way to observe it.
pub async fn late_subscriber_sees_loss(stage: &Stage) {
    let client = stage.client().await;
    let guard = lock_as(&client, "x", unwatched(stage.short())).await;
    let early = guard.cancellation_token();
    assert!(!early.is_cancelled());
    within(stage.short() + SOON, "the loss", early.cancelled()).await;
    assert_eq!(guard.lost().now_or_never(), Some(LossReason::Expired));
    assert!(guard.cancellation_token().is_cancelled());
    assert!(!guard.is_held());
    let late = guard.lost();
    drop(guard);
    assert_eq!(late.now_or_never(), Some(LossReason::Expired), "the guard's end changed the reason");
}

/// A holder that blocks its own runtime for several TTLs keeps its lock.
pub async fn watchdog_survives_a_blocked_runtime(stage: &Stage) {
    let (client, other) = (stage.client().await, stage.client().await);
    let ttl = stage.brisk();
    let lock = mutex(&client, "x");
    let blocked = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("the system can start a runtime");
        runtime.block_on(async {
            let guard = lock.lock_with(LockOptions::new().ttl(ttl)).await.expect("it is free");
            thread::sleep(ttl * 3);
            (guard.is_held(), guard.unlock().await.is_ok())
        })
    });
    sleep(ttl * 2).await;
    assert!(try_lock(&other, "x").await.is_none(), "the lease of a busy holder expired");
    eventually(ttl * 3 + SOON, "the busy holder", async || blocked.is_finished()).await;
    assert_eq!(blocked.join().expect("the holder does not panic"), (true, true));
}

/// Work that is tied to a lock is dropped when the lock is lost, and the lock is released when the work ends.
pub async fn run_stops_the_work(stage: &Stage) {
    let (client, other) = (stage.client().await, stage.client().await);
    let guard = lock(&client, "x").await;
    assert_eq!(within(SOON, "the work", guard.run(async { 7 })).await.expect("nothing went wrong"), 7);
    unlock(try_lock(&other, "x").await.expect("it was released")).await;

    let steps = Arc::new(AtomicU64::new(0));
    let counted = steps.clone();
    let work = async move {
        loop {
            counted.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(1)).await;
        }
    };
    let guard = lock_as(&client, "x", LockOptions::new().ttl(stage.brisk())).await;
    let running = tokio::spawn(guard.run::<()>(work));
    eventually(SOON, "the work to begin", async || steps.load(Ordering::SeqCst) > 3).await;
    soon("a break", other.break_leases("x")).await;
    let ended = within(stage.brisk() + SOON, "the end of the work", running).await.expect("it does not panic");
    assert!(matches!(ended.expect_err("it was lost").reason, LossReason::Broken | LossReason::Gone));
    assert_eq!(Arc::strong_count(&steps), 1, "the work was not dropped");
}

/// Measures by how much the machine lets this process oversleep. A late signal within that is not a fault of the
/// client.
struct Oversleeping(Arc<AtomicU64>);

impl Oversleeping {
    const MOMENT: Duration = Duration::from_millis(5);

    fn watch() -> Self {
        let worst = Arc::new(AtomicU64::new(0));
        let watched = Arc::downgrade(&worst);
        tokio::spawn(async move {
            loop {
                let begun = Instant::now();
                sleep(Self::MOMENT).await;
                let over = begun.elapsed().saturating_sub(Self::MOMENT).as_nanos();
                let Some(worst) = watched.upgrade() else { return };
                worst.fetch_max(u64::try_from(over).unwrap_or(u64::MAX), Ordering::SeqCst);
            }
        });
        Self(worst)
    }

    fn worst(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// Records when each of several holders learned of its loss, and the reason.
struct Signals(Vec<JoinHandle<(Instant, LossReason)>>);

impl Signals {
    fn of<'a>(guards: impl IntoIterator<Item = &'a Guard>) -> Self {
        let signal = |guard: &Guard| {
            let lost = guard.lost();
            tokio::spawn(async move {
                let reason = lost.await;
                (Instant::now(), reason)
            })
        };
        Self(guards.into_iter().map(signal).collect())
    }

    async fn all(self, limit: Duration) -> Vec<(Instant, LossReason)> {
        let all = within(limit.max(Duration::from_secs(1)), "the signals of all losses", join_all(self.0)).await;
        all.into_iter().map(|signal| signal.expect("waiting for a signal does not panic")).collect()
    }
}
