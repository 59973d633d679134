//! Tries, sets, work, extensions, releases and questions whose future is dropped at any await, on virtual time.

mod support;

use futures_util::StreamExt as _;
use rlock_core::{Election, End, LockSet, RwLock, Semaphore};
use tokio::time::sleep;

use support::{Fate, STEP, TTL, Verb, World, dropped_after, options};

fn pair(world: &World) -> LockSet {
    LockSet::new(&world.client).mutex("a").unwrap().mutex("b").unwrap()
}

async fn work() {
    sleep(STEP * 2).await;
}

/// Runs `face` with 0, 1, 2, … polls of its future, each time on a new store that answers late, until the future ends.
/// Each time, the client has no lease afterwards. Returns the number of polls to the end.
async fn dropped_at_each_await(face: impl AsyncFn(&World, u32) -> bool) -> u32 {
    for polls in 0..100 {
        let world = World::new();
        for verb in [Verb::Acquire, Verb::Extend, Verb::Release] {
            world.script.decide(verb, Fate::AnsweredLate(STEP * 2));
        }
        let has_ended = face(&world, polls).await;
        sleep(STEP * 20).await; // the requests under way
        assert_eq!(world.client.open_leases(), 0, "after {polls} polls");
        for resource in ["a", "b"] {
            let snapshot = world.other_client().inspect(resource).await.unwrap();
            assert!(snapshot.is_free(), "{resource} after {polls} polls: {snapshot:?}");
        }
        if has_ended {
            return polls;
        }
    }
    panic!("it never ends");
}

#[tokio::test(start_paused = true)]
async fn dropped_tries_hold_nothing() {
    let one = dropped_at_each_await(async |world: &World, polls: u32| {
        let tried = dropped_after(polls, world.lock("a").try_lock()).await;
        tried.is_some_and(|guard| guard.unwrap().is_some())
    });
    assert!(one.await > 2, "the claim was awaited");
    let set = dropped_at_each_await(async |world: &World, polls: u32| {
        let tried = dropped_after(polls, pair(world).try_lock_with(options())).await;
        tried.is_some_and(|guard| guard.unwrap().is_some())
    });
    assert!(set.await > 2, "the claims were awaited");
}

#[tokio::test(start_paused = true)]
async fn dropped_try_runs_hold_nothing() {
    const ALL: &str = "the claim, the work and the release were awaited";
    let mutex = dropped_at_each_await(async |world: &World, polls: u32| {
        let ran = dropped_after(polls, world.lock("a").try_run(work())).await;
        ran.is_some_and(|ran| ran.unwrap().is_some())
    });
    assert!(mutex.await > 6, "{ALL}");
    let reader = dropped_at_each_await(async |world: &World, polls: u32| {
        let lock = RwLock::new("a", &world.client).unwrap();
        dropped_after(polls, lock.try_run_read(work())).await.is_some_and(|ran| ran.unwrap().is_some())
    });
    assert!(reader.await > 6, "{ALL}");
    let writer = dropped_at_each_await(async |world: &World, polls: u32| {
        let lock = RwLock::new("a", &world.client).unwrap();
        dropped_after(polls, lock.try_run_write(work())).await.is_some_and(|ran| ran.unwrap().is_some())
    });
    assert!(writer.await > 6, "{ALL}");
    let permit = dropped_at_each_await(async |world: &World, polls: u32| {
        let pool = Semaphore::new("a", 2, &world.client).unwrap();
        dropped_after(polls, pool.try_run(work())).await.is_some_and(|ran| ran.unwrap().is_some())
    });
    assert!(permit.await > 6, "{ALL}");
    let set = dropped_at_each_await(async |world: &World, polls: u32| {
        let ran = dropped_after(polls, pair(world).try_run_with(options(), work())).await;
        ran.is_some_and(|ran| ran.unwrap().is_some())
    });
    assert!(set.await > 6, "{ALL}");
}

#[tokio::test(start_paused = true)]
async fn dropped_runs_release() {
    let lock = dropped_at_each_await(async |world: &World, polls: u32| {
        let guard = world.lock("a").lock().await.unwrap();
        dropped_after(polls, guard.run(work())).await.is_some_and(|ran| ran.is_ok())
    });
    assert!(lock.await > 4, "the work and the release were awaited");
    let set = dropped_at_each_await(async |world: &World, polls: u32| {
        let guard = pair(world).lock().await.unwrap();
        dropped_after(polls, guard.run(work())).await.is_some_and(|ran| ran.is_ok())
    });
    assert!(set.await > 4, "the work and the releases were awaited");
}

#[tokio::test(start_paused = true)]
async fn dropped_releases_take_effect() {
    let unlocked = dropped_at_each_await(async |world: &World, polls: u32| {
        let guard = pair(world).lock().await.unwrap();
        dropped_after(polls, guard.unlock()).await.is_some_and(|released| released.is_ok())
    });
    assert!(unlocked.await > 2, "the releases were awaited");
    let shared = dropped_at_each_await(async |world: &World, polls: u32| {
        let guard = world.lock("a").lock().await.unwrap();
        let released = dropped_after(polls, guard.release()).await;
        assert_eq!(guard.is_held(), polls == 0, "after {polls} polls");
        drop(guard);
        sleep(STEP * 10).await;
        assert_eq!(world.script.sizes(Verb::Release), [1], "after {polls} polls");
        released.is_some_and(|released| released.is_ok())
    });
    assert!(shared.await > 2, "the release was awaited");
    let set = dropped_at_each_await(async |world: &World, polls: u32| {
        let guard = pair(world).lock().await.unwrap();
        let released = dropped_after(polls, guard.release()).await;
        assert!(guard.guards().iter().all(|guard| guard.is_held() == (polls == 0)), "after {polls} polls");
        drop(guard);
        sleep(STEP * 10).await;
        assert_eq!(world.script.sizes(Verb::Release), [2], "after {polls} polls");
        released.is_some_and(|released| released.is_ok())
    });
    assert!(set.await > 2, "the releases were awaited");
}

#[tokio::test(start_paused = true)]
async fn dropped_extensions_take_effect() {
    let lock = dropped_at_each_await(async |world: &World, polls: u32| {
        let guard = world.lock("a").lock_with(options()).await.unwrap();
        let extended = dropped_after(polls, guard.extend(TTL * 4)).await;
        sleep(STEP * 10).await; // the answer under way
        assert_eq!(guard.remaining() > TTL * 3, polls > 0, "after {polls} polls");
        extended.is_some_and(|extended| extended.is_ok())
    });
    assert!(lock.await > 2, "the extension was awaited");
    let set = dropped_at_each_await(async |world: &World, polls: u32| {
        let guard = pair(world).lock_with(options()).await.unwrap();
        let extended = dropped_after(polls, guard.extend(TTL * 4)).await;
        sleep(STEP * 10).await; // the answers under way
        assert_eq!(guard.remaining() > TTL * 3, polls > 0, "after {polls} polls");
        extended.is_some_and(|extended| extended.is_ok())
    });
    assert!(set.await > 2, "the extensions were awaited");
}

#[tokio::test(start_paused = true)]
async fn dropped_questions_have_no_effect() {
    for polls in 0..8 {
        let world = World::new();
        world.script.look_away(Fate::AnsweredLate(STEP * 2));
        let (lock, election) = (world.lock("a"), Election::new("a", &world.client).unwrap());
        let guard = lock.lock().await.unwrap();
        let is_answered = dropped_after(polls, lock.holders()).await.is_some();
        assert!(if is_answered { polls > 2 } else { polls < 7 }, "the question was awaited: {polls} polls");
        drop(dropped_after(polls, lock.is_locked()).await);
        drop(dropped_after(polls, lock.snapshot()).await);
        drop(dropped_after(polls, election.leader()).await);
        drop(dropped_after(polls, lock.watch().next()).await);
        drop(dropped_after(polls, election.observe().next()).await);
        assert!(dropped_after(polls, guard.lost()).await.is_none());
        assert!(dropped_after(polls, guard.ended()).await.is_none());
        sleep(STEP * 20).await; // the answers under way
        let looks = world.script.looks();
        sleep(TTL).await;
        assert_eq!(world.script.looks(), looks, "no watcher asks on, after {polls} polls");
        assert!(guard.is_held(), "after {polls} polls");
        let (lost, ended) = (guard.lost(), guard.ended());
        guard.release().await.unwrap();
        drop(guard);
        assert_eq!(ended.await, End::Released);
        assert!(dropped_after(3, lost).await.is_none());
        assert_eq!(world.client.open_leases(), 0, "after {polls} polls");
    }
}
