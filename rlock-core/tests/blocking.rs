//! Locks without `async`, on threads.

mod support;

use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use rlock_core::blocking::{Client, Election, LockSet, NoThread, RwLock, Semaphore, SimpleLock, block_on};
use rlock_core::{
    AdoptError, End, Finding, LockError, LockOptions, LossReason, Lost, MemoryStore, Namespace, Observation, RunError,
    WatchdogConfig,
};

use support::Scripted;

const LONG: Duration = Duration::from_secs(30);

fn client_of(store: &Arc<MemoryStore>) -> Client {
    Client::new(rlock_core::Client::new(store.client(Namespace::default()))).unwrap()
}

fn client() -> Client {
    client_of(&MemoryStore::new())
}

#[test]
fn threads_exclude_each_other() {
    let store = MemoryStore::new();
    let inside = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let lock = SimpleLock::new("job", &client_of(&store)).unwrap();
                for _ in 0..50 {
                    let guard = lock.lock().unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    guard.unlock().unwrap();
                }
            });
        }
    });
}

#[test]
fn lock_outlives_its_ttl() {
    let store = MemoryStore::new();
    let (holder, rival) = (client_of(&store), client_of(&store));
    let ttl = Duration::from_millis(500);
    let guard = SimpleLock::new("job", &holder).unwrap().lock_with(LockOptions::new().ttl(ttl)).unwrap();
    let rival = SimpleLock::new("job", &rival).unwrap();
    let refused = rival.lock_with(LockOptions::new().wait(ttl * 3)).unwrap_err();
    assert!(refused.is_timeout(), "{refused}");
    assert!(guard.check().is_ok() && guard.remaining() > Duration::ZERO);
    guard.unlock().unwrap();
    rival.lock().unwrap().unlock().unwrap();
}

#[test]
fn loss_is_waited_for() {
    let client = client();
    let guard = SimpleLock::new("job", &client).unwrap().lock().unwrap();
    assert_eq!(guard.wait_lost(Duration::from_millis(10)), None);
    let breaking = thread::spawn(move || client.break_leases("job").unwrap());
    assert_eq!(guard.wait_lost(LONG), Some(LossReason::Broken));
    assert_eq!(breaking.join().unwrap(), 1);
    assert_eq!((guard.loss(), guard.is_held()), (Some(LossReason::Broken), false));
    assert!(guard.extend(LONG).is_err() && guard.start_watchdog(WatchdogConfig::new()).is_err());
    guard.unlock().unwrap_err();
}

#[test]
fn end_is_waited_for() {
    let client = client();
    let guard = SimpleLock::new("job", &client).unwrap().lock().unwrap();
    assert_eq!(guard.wait_ended(Duration::from_millis(10)), None);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| guard.wait_ended(LONG));
        guard.release().unwrap();
        assert_eq!(waiting.join().unwrap(), Some(End::Released));
    });
    assert_eq!(guard.wait_lost(Duration::ZERO), None, "a release is no loss");
}

#[test]
fn end_of_a_set_is_waited_for() {
    let client = client();
    let set = LockSet::new(&client).mutex("one").unwrap().mutex("two").unwrap().lock().unwrap();
    let brief = Duration::from_millis(10);
    assert_eq!((set.wait_lost(brief), set.wait_ended(brief)), (None, None));
    client.break_leases("two").unwrap();
    let lost = set.wait_lost(LONG).expect("one of them is broken");
    assert_eq!((lost.resource.as_str(), lost.reason), ("two", LossReason::Broken));
    assert_eq!(set.wait_ended(LONG), Some(End::Lost(LossReason::Broken)));
}

#[test]
fn watcher_iterates_over_changes() {
    let store = MemoryStore::new();
    let (holder, watcher) = (client_of(&store), client_of(&store));
    let pool = Semaphore::new("pool", 2, &holder).unwrap();
    let watched = Semaphore::new("pool", 2, &watcher).unwrap();
    let mut changes = watched.watch();
    assert!(changes.next().unwrap().unwrap().is_free() && !watched.is_locked().unwrap());
    let permit = pool.acquire().unwrap();
    let held = changes.next().unwrap().unwrap();
    assert_eq!(held.holders[0].token, permit.token());
    assert!(watched.is_locked().unwrap() && !watched.snapshot().unwrap().is_free());
    permit.unlock().unwrap();
    assert!(changes.next().unwrap().unwrap().is_free());
    for mut others in
        [SimpleLock::new("job", &watcher).unwrap().watch(), RwLock::new("pages", &watcher).unwrap().watch()]
    {
        assert!(others.next().unwrap().unwrap().is_free());
    }
    watcher.shutdown(LONG).unwrap();
    assert!(changes.next().is_none());
}

#[test]
fn threads_release_a_shared_guard() {
    let client = client();
    let lock = SimpleLock::new("job", &client).unwrap();
    let guard = lock.lock().unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| guard.release().unwrap());
        }
    });
    assert!(!guard.is_held());
    assert_eq!(guard.check().unwrap_err().reason, LossReason::Released);
    assert!(lock.try_lock().unwrap().is_some());
    let set = LockSet::new(&client).mutex("one").unwrap().mutex("two").unwrap().lock().unwrap();
    set.release().unwrap();
    set.release().unwrap();
    assert!(!set.is_held());
}

#[test]
fn readers_permits_and_sets_work() {
    let client = client();
    let pages = RwLock::new("pages", &client).unwrap();
    let (one, two) = (pages.read().unwrap(), pages.try_read_with(LockOptions::new()).unwrap());
    assert!(two.is_some() && pages.try_write_with(LockOptions::new()).unwrap().is_none());
    drop((one, two));
    let pool = Semaphore::new("pool", 2, &client).unwrap();
    let permits = pool.acquire_many(2).unwrap();
    assert!(pool.try_acquire_many(1).unwrap().is_none());
    permits.unlock().unwrap();
    let set = LockSet::new(&client).write("pages").unwrap().permits("pool", 1, 2).unwrap().mutex("job").unwrap();
    let guard = set.lock().unwrap();
    assert!(guard.is_held() && guard.token("job").is_some() && guard.tokens().count() == 3);
    assert!(set.try_lock_with(LockOptions::new()).unwrap().is_none());
    guard.unlock().unwrap();
}

#[test]
fn work_runs_under_a_free_lock() {
    let store = MemoryStore::new();
    let [lock, rival] = [(); 2].map(|()| SimpleLock::new("job", &client_of(&store)).unwrap());
    let ran = lock.try_run(|guard| (guard.is_held(), rival.try_run(|_| "too").unwrap()));
    assert_eq!(ran.unwrap(), Some((true, None)));
    assert_eq!(rival.try_run(|_| "next").unwrap(), Some("next"), "it is free again");
}

#[test]
fn loss_fails_the_run_after_its_work() {
    let client = client();
    let lock = SimpleLock::new("job", &client).unwrap();
    let mut seen = None;
    let run = lock.try_run(|guard| {
        client.break_leases(guard.resource()).unwrap();
        seen = guard.wait_lost(LONG);
    });
    assert!(matches!(&run, Err(RunError::Lost(Lost { reason: LossReason::Broken, .. }))), "{run:?}");
    assert_eq!(seen, Some(LossReason::Broken));
}

#[test]
fn released_guard_runs_no_work() {
    let guard = SimpleLock::new("job", &client()).unwrap().lock().unwrap();
    guard.release().unwrap();
    let lost = guard.run(|_| unreachable!("the lock is released")).map(|()| "ran").unwrap_err();
    assert_eq!(lost.reason, LossReason::Released);
}

#[test]
fn readers_permits_and_sets_run_work() {
    let client = client();
    let pages = RwLock::new("pages", &client).unwrap();
    let ran = pages.try_run_read(|_| {
        let reader = pages.try_run_read(|_| "read").unwrap();
        let writer = pages.try_run_write(|_| "written").unwrap();
        (reader, writer, pages.try_write().unwrap().is_some())
    });
    assert_eq!(ran.unwrap(), Some((Some("read"), None, false)));
    let ran = pages.try_run_write(|_| pages.try_read().unwrap().is_some());
    assert_eq!(ran.unwrap(), Some(false));
    let pool = Semaphore::new("pool", 2, &client).unwrap();
    let ran = pool.try_run(|_| {
        let both = pool.try_run_many_with(2, LockOptions::new(), |_| "both").unwrap();
        (both, pool.try_acquire().unwrap().is_some())
    });
    assert_eq!(ran.unwrap(), Some((None, true)), "one of two permits is left");
    assert_eq!(
        pool.try_run_with(LockOptions::new().watchdog(false), |guard| guard.watchdog().is_none()).unwrap(),
        Some(true)
    );
    let set = LockSet::new(&client).mutex("one").unwrap().mutex("two").unwrap();
    let ran = set.try_run(|guard| (guard.is_held(), set.try_lock().unwrap().is_some()));
    assert_eq!(ran.unwrap(), Some((true, false)));
    assert_eq!(set.try_run_with(LockOptions::new(), |guard| guard.tokens().count()).unwrap(), Some(2));
    set.try_lock().unwrap().expect("it is free again").unlock().unwrap();
}

#[test]
fn handle_moves_a_lock_between_clients() {
    let store = MemoryStore::new();
    let (one, other) = (client_of(&store), client_of(&store));
    let guard = SimpleLock::new("job", &one).unwrap().lock().unwrap();
    let token = guard.token();
    let handle = guard.into_handle().unwrap();
    let adopted = other.adopt(&handle).unwrap();
    assert!(adopted.is_held() && adopted.token() == token);
    adopted.unlock().unwrap();
    let ended = one.adopt(&handle).unwrap_err();
    assert!(matches!(ended, AdoptError::Lost(_)), "{ended}");
}

#[test]
fn drain_waits_for_the_guards() {
    let client = client();
    let lock = SimpleLock::new("job", &client).unwrap();
    let guard = lock.lock().unwrap();
    thread::scope(|scope| {
        let draining = scope.spawn(|| client.drain(LONG, LONG));
        let refused = lock.lock().unwrap_err();
        assert!(matches!(refused, LockError::Closed { .. }), "{refused}");
        assert!(guard.is_held() && !draining.is_finished());
        guard.unlock().unwrap();
        draining.join().unwrap().unwrap();
    });
}

#[test]
fn store_is_examined() {
    let (backend, _script) = Scripted::client_of(&MemoryStore::new());
    let client = Client::new(rlock_core::Client::new(backend)).unwrap();
    assert_eq!(client.examine().unwrap(), [Finding::note("answers", "they are scripted")]);
}

#[test]
fn leader_is_observed() {
    let client = client();
    let election = Election::new("scheduler", &client).unwrap();
    let mut observed = election.observe();
    assert!(matches!(observed.next(), Some(Observation::Vacant)));
    let leadership = election.campaign("one").unwrap();
    let seen = observed.next().unwrap();
    assert_eq!(seen.leader().map(|leader| leader.token), Some(leadership.token()));
    assert_eq!(election.leader().unwrap().unwrap().token, leadership.token());
    leadership.resign().unwrap();
    client.shutdown(LONG).unwrap();
    assert!(observed.find(|seen| !matches!(seen, Observation::Vacant | Observation::Led(_))).is_none());
}

#[test]
fn term_after_a_loss_is_another_campaign() {
    let client = client();
    let election = Election::new("scheduler", &client).unwrap();
    let mut tokens = Vec::new();
    let led = election.lead("one", LockOptions::new(), |leadership| {
        tokens.push(leadership.token());
        if tokens.len() < 3 {
            client.break_leases("scheduler").unwrap();
            assert_eq!(leadership.wait_lost(LONG), Some(LossReason::Broken));
        }
        leadership.is_leader().then(|| leadership.token())
    });
    assert_eq!(led.unwrap(), tokens.last().copied(), "the output of a lost term is dropped");
    assert!(tokens.len() == 3 && tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    assert_eq!(election.leader().unwrap(), None, "it has resigned");
}

#[test]
fn leading_ends_with_the_client() {
    let client = client();
    let election = Election::new("scheduler", &client).unwrap();
    let mut terms = 0;
    let led = election.lead("", LockOptions::new(), |leadership| {
        terms += 1;
        client.shutdown(LONG).unwrap();
        leadership.check().unwrap_err().reason
    });
    assert!(matches!(led, Err(LockError::Closed { .. })), "{led:?}");
    assert_eq!(terms, 1);
}

#[tokio::test]
async fn calls_inside_a_runtime_block_it_and_return() {
    let client = client();
    let guard = SimpleLock::new("job", &client).unwrap().lock().unwrap();
    assert!(guard.as_async().is_held());
    guard.unlock().unwrap();
}

/// A task may use its runtime for some time before it has to yield. A call that blocks cannot.
#[tokio::test]
async fn task_that_never_yields_may_make_calls() {
    let client = client();
    let lock = SimpleLock::new("job", &client).unwrap();
    for _ in 0..200 {
        lock.lock().unwrap().release().unwrap();
    }
}

/// Both calls park the same thread. The inner one is woken after the outer one.
#[test]
fn call_in_a_poll_leaves_the_outer_wake() {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut is_polled = false;
        block_on(poll_fn(|context| {
            if std::mem::replace(&mut is_polled, true) {
                return Poll::Ready(());
            }
            let outer = context.waker().clone();
            let mut is_woken = false;
            block_on(poll_fn(|context| {
                if std::mem::replace(&mut is_woken, true) {
                    return Poll::Ready(());
                }
                outer.wake_by_ref();
                context.waker().wake_by_ref();
                Poll::Pending
            }));
            Poll::Pending
        }));
        sender.send(())
    });
    receiver.recv_timeout(LONG).expect("the outer future is polled again");
}

#[tokio::test]
async fn client_on_the_callers_runtime_is_refused() {
    let builder = rlock_core::Client::builder().runtime(tokio::runtime::Handle::current());
    let client = builder.build(MemoryStore::new().client(Namespace::default()));
    let refused = Client::new(client).unwrap_err();
    assert_eq!(refused, NoThread);
    assert!(refused.to_string().contains("without ClientBuilder::runtime"), "{refused}");
}

#[test]
fn waiter_is_woken_by_the_release() {
    let store = MemoryStore::new();
    let guard = SimpleLock::new("job", &client_of(&store)).unwrap().lock().unwrap();
    let (sender, receiver) = mpsc::channel();
    let waiter = client_of(&store);
    let waiting = thread::spawn(move || {
        let lock = SimpleLock::new("job", &waiter).unwrap();
        sender.send(()).unwrap();
        lock.lock().map(|guard| guard.unlock())
    });
    receiver.recv().unwrap();
    guard.unlock().unwrap();
    waiting.join().unwrap().unwrap().unwrap();
}
