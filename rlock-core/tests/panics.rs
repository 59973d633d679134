//! Panics of the user's code: under sets, elections and tries they reach the user, and the locks are released. Those of
//! wakers reach no other user.

mod support;

use std::future::{Ready, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use rlock_core::{Client, Election, LockOptions, LockSet, MemoryStore, Namespace, blocking};

use support::{TTL, World, broken_waker, options, until_idle};

/// Work that panics when it is polled.
fn panicking() -> impl Future<Output = ()> {
    poll_fn(|_| -> Poll<()> { panic!("the work panics") })
}

/// Polls `face` until it panics.
async fn panics<F: Future>(face: F) {
    assert!(AssertUnwindSafe(face).catch_unwind().await.is_err(), "the panic is hidden");
    until_idle().await;
}

#[tokio::test(start_paused = true)]
async fn panicking_work_releases_its_set() {
    let world = World::new();
    let set = LockSet::new(&world.client).mutex("a").unwrap().mutex("b").unwrap();
    panics(set.lock().await.unwrap().run(panicking())).await;
    assert_eq!(world.client.open_leases(), 0);
    panics(set.try_run(panicking())).await;
    assert_eq!(world.client.open_leases(), 0);
    set.try_lock().await.unwrap().expect("the locks are free").unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn panicking_work_releases_its_lock() {
    let world = World::new();
    let lock = world.lock("job");
    panics(lock.try_run(panicking())).await;
    assert_eq!(world.client.open_leases(), 0);
    lock.try_lock().await.unwrap().expect("the lock is free").unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn panicking_term_resigns() {
    let world = World::new();
    let election = Election::new("scheduler", &world.client).unwrap();
    panics(election.lead("one", options(), |_| panicking())).await;
    assert_eq!(election.leader().await.unwrap(), None);
    panics(election.lead("one", options(), |_| -> Ready<()> { panic!("no term begins") })).await;
    assert_eq!(election.leader().await.unwrap(), None);
    assert_eq!(world.client.open_leases(), 0);
}

#[test]
fn panicking_function_releases_its_lock() {
    let store = MemoryStore::new();
    let client_of = || blocking::Client::new(Client::new(store.client(Namespace::default()))).unwrap();
    let (client, other) = (client_of(), client_of());
    let lock = blocking::SimpleLock::new("job", &client).unwrap();
    let set = blocking::LockSet::new(&client).mutex("job").unwrap().mutex("other").unwrap();
    let election = blocking::Election::new("job", &client).unwrap();
    let rival = blocking::SimpleLock::new("job", &other).unwrap();
    let runs: [&dyn Fn(); 3] = [
        &|| drop(lock.try_run(|_| -> u32 { panic!("the work panics") })),
        &|| drop(set.try_run(|_| -> u32 { panic!("the work panics") })),
        &|| drop(election.lead("one", LockOptions::new(), |_| -> u32 { panic!("the term panics") })),
    ];
    for run in runs {
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "the panic is hidden");
        let soon = LockOptions::new().wait(Duration::from_secs(20)); // the TTL is longer
        rival.lock_with(soon).unwrap().unlock().unwrap();
    }
}

/// A waker that blocks would withhold the loss from all whom the client wakes later.
#[tokio::test(start_paused = true)]
async fn loss_wakes_guards_before_tokens() {
    struct Noting(&'static str, Arc<Mutex<Vec<&'static str>>>);
    impl Wake for Noting {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }
    let world = World::new();
    let guard = world.lock("job").lock_with(options().watchdog(false)).await.unwrap();
    let token = guard.cancellation_token();
    let (mut cancelled, mut lost) = (token.cancelled().boxed(), guard.lost().boxed());
    let woken = Arc::default();
    let waker = |name| Waker::from(Arc::new(Noting(name, Arc::clone(&woken))));
    assert!(cancelled.as_mut().poll(&mut Context::from_waker(&waker("token"))).is_pending());
    assert!(lost.as_mut().poll(&mut Context::from_waker(&waker("guard"))).is_pending());
    tokio::time::sleep(TTL).await;
    until_idle().await;
    assert_eq!(*woken.lock().unwrap(), ["guard", "token"]);
}

#[tokio::test(start_paused = true)]
async fn panicking_waker_hides_no_loss_from_others() {
    let world = World::new();
    for is_token in [false, true] {
        let guard = world.lock("job").lock_with(options().watchdog(false)).await.unwrap();
        let token = guard.cancellation_token();
        let mut broken = if is_token { token.cancelled().boxed() } else { guard.lost().map(|_| ()).boxed() };
        assert!(broken.as_mut().poll(&mut Context::from_waker(&broken_waker())).is_pending());
        let (lost, ended) = (tokio::spawn(guard.lost()), tokio::spawn(guard.ended()));
        let run = tokio::spawn(guard.run(std::future::pending::<()>()));
        until_idle().await;
        tokio::time::sleep(TTL).await;
        until_idle().await;
        assert!(lost.is_finished() && ended.is_finished() && run.is_finished(), "{is_token}");
        assert!(token.is_cancelled());
    }
}
