//! Rule 6: only the clock of the store decides which leases have expired.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rlock_core::{
    Acquired, Client, Clock, Entry, Extended, Grant, InvalidConfig, LockError, LockOptions, Released, RwLock,
    Semaphore, Ttl,
};
use tokio::runtime::Builder;

use crate::locking::{lock, lock_as, lock_in_background, long, mutex, served, soon, try_lock, unlock, unwatched};
use crate::peer::{LONG, SOON, Shape, claim};
use crate::wait::{eventually, within};
use crate::{Remotes, Stage};

/// A lock whose holder does not renew is free after its TTL.
pub async fn expires_after_ttl(stage: &Stage) {
    let (gone, peer) = (stage.peer().await, stage.peer().await);
    gone.hold(&claim("x").living(stage.short())).await;
    peer.hold_once_free(stage.short() + SOON, "x").await;
}

/// No lease ends before its TTL has passed since the request was sent, less the margin that holders subtract.
pub async fn never_expires_early(stage: &Stage) {
    let (holder, other) = (stage.peer().await, stage.peer().await);
    for _ in 0..5 {
        let claim = claim("x").living(stage.short());
        let sent = Instant::now();
        holder.hold(&claim).await;
        let next = other.hold_once_free(stage.short() + SOON, "x").await;
        let held_for = sent.elapsed();
        assert!(held_for + claim.ttl.margin() >= claim.ttl.get(), "a lease of {} ended after {held_for:?}", claim.ttl);
        other.release(&next.key).await;
    }
}

/// Every operation treats an expired lease as absent, even if no earlier operation has touched its resource.
pub async fn expired_reads_as_free(stage: &Stage) {
    let (gone, peer) = (stage.peer().await, stage.peer().await);
    let names = ["extended", "released", "broken", "listed", "claimed", "inspected"];
    let claims = names.map(|name| claim(name).living(stage.short()));
    let [extended, released, _, _, claimed, _] = &claims;
    let acquired = gone.acquire(&claims).await;
    let Acquired::Held(before) = acquired[4] else { panic!("the resources are free: {acquired:?}") };
    peer.sees_free("inspected").await;
    assert_eq!(peer.inspect("inspected").await.capacity, None);
    assert_eq!(gone.extend(&extended.key, LONG).await, Extended::Gone { taken: false });
    assert_eq!(gone.release(&released.key).await, Released::Absent);
    assert_eq!(peer.break_leases("broken").await, 0);
    assert_eq!(peer.list("listed", 10).await, []);
    assert!(gone.hold(claimed).await.token > before.token, "a claim was answered with an expired lease");
}

/// A client that ends without releasing delays the next holder by its TTL, and no more.
pub async fn crash_frees(stage: &Stage) {
    let other = stage.client().await;
    let doomed = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("the system has a thread");
    let client = stage.client_of(Client::builder().runtime(doomed.handle().clone())).await;
    let lost = lock_as(&client, "x", LockOptions::new().ttl(stage.brisk())).await;
    doomed.shutdown_background();
    let guard = within(stage.brisk() + SOON, "the crashed holder's TTL", lock(&other, "x")).await;
    assert!(guard.token() > lost.token());
}

/// A process that is killed delays the next holder by its TTL, and no more.
pub async fn killed_process_frees(stage: &Stage, remotes: &Remotes) {
    let client = stage.client().await;
    let mut remote = remotes.start();
    let token = remote.lock("x", stage.brisk()).await;
    let waiting = lock_in_background(&client, "x");
    stage.sees_waiting(1, "x").await;
    remote.kill();
    let guard = within(stage.brisk() + SOON, "the killed holder's TTL", served(waiting)).await;
    assert!(guard.token().get() > token);
}

/// A dead waiter that a release grants the lock to delays the next waiter by its TTL, and no more.
pub async fn dead_waiter_costs_its_ttl(stage: &Stage) {
    let (holder, dead, client) = (stage.client().await, stage.peer().await, stage.client().await);
    let guard = lock(&holder, "x").await;
    dead.queue(&claim("x").living(stage.brisk()).queued()).await;
    let waiting = lock_in_background(&client, "x");
    stage.sees_waiting(2, "x").await;
    unlock(guard).await;
    unlock(within(stage.brisk() + SOON, "the dead waiter's TTL", served(waiting)).await).await;
}

/// Dead waiters delay the live ones by their TTL, and no more, wherever they stand in the line, and whether the holder
/// releases or is dead as well.
pub async fn dead_waiters_anywhere_cost_their_ttl(stage: &Stage) {
    const DEAD: [&[usize]; 5] = [&[0], &[1], &[2], &[0, 2], &[1, 2]];
    let client = stage.client_of(Client::builder().label(ALIVE)).await;
    let lines = DEAD.iter().flat_map(|dead| [false, true].map(|dies| line_with_dead(stage, &client, dead, dies)));
    within(stage.patient() + SOON, "the TTL of the dead", join_all(lines)).await;
}

const ALIVE: &str = "alive";

/// Queues four waiters, of which some are dead, and waits until the others have had their turns.
async fn line_with_dead(stage: &Stage, client: &Client, dead: &[usize], holder_dies: bool) {
    let (gone, peer) = (stage.peer().await, stage.peer().await);
    let name = format!("{dead:?} {holder_dies}");
    let held = gone.hold(&claim(&name).living(if holder_dies { stage.brisk() } else { LONG })).await;
    let mut alive = Vec::new();
    for place in 0..4 {
        if dead.contains(&place) {
            gone.acquire(&[claim(&name).living(stage.patient()).queued()]).await;
            continue;
        }
        alive.push(lock_in_background(client, &name));
        let is_there = async || {
            let now = peer.inspect(&name).await;
            let owners = now.holders.iter().map(|holder| &holder.owner).chain(now.queue.iter().map(|it| &it.owner));
            owners.filter(|owner| owner.label() == Some(ALIVE)).count() == alive.len()
        };
        eventually(SOON, "a waiter in the line", is_there).await;
    }
    if !holder_dies {
        peer.release(&held.key).await;
    }
    for waiting in alive {
        unlock(served(waiting).await).await;
    }
}

/// A waiter holds as soon as the lease in front of it has expired, even if no operation has touched the resource since:
/// a list shows it as a holder, a break ends its lease, and its release can start a rest.
pub async fn unseen_turn_counts(stage: &Stage) {
    let (gone, peer) = (stage.peer().await, stage.peer().await);
    let names = ["broken", "rested", "list 1", "list 2", "inspected"];
    let acquired = gone.acquire(&names.map(|name| claim(name).living(stage.short()))).await;
    assert!(acquired.iter().all(|acquired| matches!(acquired, Acquired::Held(_))), "{acquired:?}");
    let [broken, rested, listed] = ["broken", "rested", "list 2"].map(|name| claim(name).queued());
    for waiter in [&broken, &rested, &listed] {
        peer.queue(waiter).await;
    }
    gone.sees_free("inspected").await;
    assert_eq!(gone.list("list", 1).await, [Entry { resource: listed.key.resource, holders: 1, waiters: 0 }]);
    assert_eq!(gone.break_leases("broken").await, 1);
    assert_eq!(peer.token(&broken.key).await, None);
    if stage.capabilities().rest {
        assert_eq!(peer.release_and_rest(&rested.key, SOON).await, Released::Released);
        assert!(gone.try_claim(&claim("rested")).await.is_none(), "the rest was not kept");
    }
}

/// Clients whose clocks differ by hours exclude each other, and do not wait longer because of that.
pub async fn client_clock_is_ignored(stage: &Stage) {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let behind = stage.client().await;
    let ahead = stage.client_of(Client::builder().clock(Clock::boot().ahead_by(HOUR))).await;
    for (holder, other) in [(&behind, &ahead), (&ahead, &behind)] {
        let guard = lock(holder, "x").await;
        assert!(try_lock(other, "x").await.is_none(), "the holder's lease expired on the other's clock");
        assert!(guard.is_held());
        unlock(guard).await;

        let ttl = stage.brisk();
        let started = Instant::now();
        let _expires = lock_as(holder, "x", unwatched(ttl)).await;
        let guard = lock(other, "x").await;
        let waited = started.elapsed() + Ttl::new(ttl).expect("a valid TTL").margin();
        assert!(waited >= ttl, "a lease of {ttl:?} ended after {waited:?}");
        unlock(guard).await;
    }
}

/// A waiter gets its permit when the first lease of a holder expires, long before its own lease is due for renewal.
pub async fn expiry_wakes_a_waiter(stage: &Stage) {
    let (gone, client) = (stage.peer().await, stage.client().await);
    gone.hold(&claim("x").weighing(1, 2).living(stage.brisk())).await;
    gone.hold(&claim("x").weighing(1, 2)).await;
    let semaphore = Semaphore::new("x", 2, &client).expect("a good semaphore");
    let waiting = soon("a permit", semaphore.acquire_many_with(1, long()));
    unlock(within(stage.brisk() + Duration::from_secs(5), "the first holder's TTL", waiting).await).await;
}

/// A reader whose short lease expires ends no other reader's longer lease.
pub async fn short_reader_spares_a_long_one(stage: &Stage) {
    let (one, other, peer) = (stage.client().await, stage.client().await, stage.peer().await);
    let [first, second] = [&one, &other].map(|client| RwLock::new("x", client).expect("a good name"));
    let lasting = soon("read", first.read_with(unwatched(LONG))).await;
    let brief = soon("read", second.read_with(unwatched(stage.brisk()))).await;
    let has_expired = async || peer.inspect("x").await.holders.iter().all(|holder| holder.token != brief.token());
    eventually(stage.brisk() + SOON, "the short lease's TTL", has_expired).await;
    assert!(soon("write", second.try_write_with(long())).await.is_none(), "a writer beside a reader");
    assert!(lasting.is_held());
    unlock(lasting).await;
    assert!(soon("write", second.try_write_with(long())).await.is_some());
}

/// A TTL is used as requested, rounded up to one that the store supports, or refused.
pub async fn ttl_bounds(stage: &Stage) {
    let (peer, client) = (stage.peer().await, stage.client().await);
    for ttl in [Duration::ZERO, Ttl::MIN.get() / 2, Ttl::MAX.get() * 2] {
        let answer = within(SOON, "a try", mutex(&client, "x").try_lock_with(LockOptions::new().ttl(ttl))).await;
        assert!(matches!(answer, Err(LockError::InvalidConfig(InvalidConfig::Ttl(_)))), "{ttl:?}: {answer:?}");
    }
    let (min, max) = (stage.capabilities().min_ttl, stage.capabilities().max_ttl);
    if max < Ttl::MAX {
        let too_long = LockOptions::new().ttl(Ttl::MAX.get());
        let answer = within(SOON, "a try", mutex(&client, "x").try_lock_with(too_long)).await;
        assert!(matches!(answer, Err(LockError::InvalidConfig(InvalidConfig::TtlTooLong { .. }))), "{answer:?}");
    }
    let huge = peer.hold(&claim("huge").living(max.get())).await;
    assert!(huge.ttl + stage.capabilities().ttl_step >= max.get(), "{:?} of {max} were granted", huge.ttl);
    assert!(peer.remaining("huge").await > max.get() - LONG);

    let least = peer.hold(&claim("least").living(Ttl::MIN.get())).await;
    assert!(least.ttl + stage.capabilities().ttl_step >= min.get(), "{:?} of {min} were granted", least.ttl);
    peer.sees_free("least").await;
    // Below the minimum of a store with a high one, and long enough for a busy machine to receive the grant in time.
    let short = (min.get() / 2).max(Duration::from_millis(200));
    drop(soon("a lock with a short TTL", mutex(&client, "least").lock_with(unwatched(short))).await);
}

/// The TTL that an answer reports is the requested one, rounded up as the capabilities say, and is the real life of the
/// lease.
pub async fn granted_ttl_is_reported(stage: &Stage) {
    let peer = stage.peer().await;
    let step = stage.capabilities().ttl_step;
    for ttl in [stage.short(), Duration::from_millis(12_345), SOON, LONG] {
        let held = peer.hold(&claim("x").living(ttl)).await;
        let reported = [held.ttl, state_ttl(peer.extend(&held.key, ttl).await)];
        for reported in reported {
            assert!(reported + step >= stage.kept(ttl), "{reported:?} were reported for {ttl:?}");
            assert!(reported <= stage.kept(ttl) + step, "{reported:?} were reported for {ttl:?}");
        }
        let remaining = peer.remaining("x").await;
        assert!(remaining <= reported[1] + step, "{remaining:?} are left of {:?}", reported[1]);
        peer.release(&held.key).await;
    }
}

fn state_ttl(state: Extended) -> Duration {
    match state {
        Extended::Held(Grant { ttl, .. }) => ttl,
        other => panic!("the lease is held: {other:?}"),
    }
}
