//! The requests of sets, whichever threads make and send them.

mod support;

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use futures_util::FutureExt as _;
use rlock_core::blocking::{self, block_on};
use rlock_core::{Client, LockSet, MemoryStore, Namespace, SimpleLock};
use tokio::runtime::Handle;
use tokio::time::timeout;

use support::{Script, Scripted, TTL, Verb, World, options, until_idle};

const ROUNDS: usize = 200;
const LONG: Duration = Duration::from_secs(10);

fn set(client: &Client) -> LockSet {
    ["a", "b", "c"].into_iter().fold(LockSet::new(client), |set, name| set.mutex(name).unwrap())
}

/// Locks, extends and releases a set of three again and again.
async fn rounds(client: Client) {
    let set = set(&client);
    for _ in 0..ROUNDS {
        let guard = set.lock_with(options().watchdog(false)).await.unwrap();
        guard.extend(TTL * 2).await.unwrap();
        guard.unlock().await.unwrap();
    }
}

fn assert_one_request_each(script: &Script) {
    let extended: Vec<_> = script.calls().iter().map(|call| call.resources.len()).collect();
    for sizes in [script.sizes(Verb::Acquire), extended, script.sizes(Verb::Release)] {
        assert_eq!(sizes, [3; ROUNDS]);
    }
}

#[test]
fn set_takes_one_request_from_another_thread() {
    let (backend, script) = Scripted::client_of(&MemoryStore::new());
    block_on(rounds(Client::new(backend)));
    assert_one_request_each(&script);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn set_takes_one_request_among_several_threads() {
    let (backend, script) = Scripted::client_of(&MemoryStore::new());
    let client = Client::builder().runtime(Handle::current()).build(backend);
    tokio::spawn(rounds(client)).await.unwrap();
    assert_one_request_each(&script);
}

#[tokio::test(start_paused = true)]
async fn up_to_thirty_two_locks_share_a_request() {
    for locks in [1, 32, 33, 1_000] {
        let world = World::new();
        let add = |set: LockSet, number: usize| set.mutex(number.to_string()).unwrap();
        let guard = (0..locks).fold(LockSet::new(&world.client), add).lock().await.unwrap();
        guard.unlock().await.unwrap();
        for sizes in [Verb::Acquire, Verb::Release].map(|verb| world.script.sizes(verb)) {
            assert_eq!(sizes.iter().sum::<usize>(), locks);
            assert!(sizes.len() <= locks.div_ceil(32), "{sizes:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_poll_strands_no_request() {
    let world = World::new();
    let set = set(&world.client);
    let mut panics = 0;
    for answers in 0..10 {
        world.script.panic_in_capabilities(Some(answers));
        let locked = AssertUnwindSafe(set.lock()).catch_unwind().await;
        world.script.panic_in_capabilities(None);
        panics += u32::from(locked.is_err());
        drop(locked);
        until_idle().await;
        assert_eq!(world.client.open_leases(), 0, "after {answers} answers");
        let next = timeout(TTL, world.lock("job").lock()).await.expect("its claim is sent");
        next.unwrap().unlock().await.unwrap();
    }
    assert!(panics > 1 && panics < 10, "before and after the first claim, but not always: {panics}");
}

/// Calls a function when the thread itself wakes the future that it polls.
struct OnWake {
    thread: Thread,
    is_woken: AtomicBool,
    call: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Wake for OnWake {
    fn wake(self: Arc<Self>) {
        let is_polling = thread::current().id() == self.thread.id();
        let call = if is_polling { self.call.lock().unwrap().take() } else { None };
        if let Some(call) = call {
            call();
        }
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Calls a function in a poll that releases a set.
fn while_releasing(call: impl FnOnce() + Send + 'static) {
    let client = Client::new(MemoryStore::new().client(Namespace::default()));
    let guard = block_on(set(&client).lock()).unwrap();
    let (thread, call) = (thread::current(), Mutex::new(Some(Box::new(call) as Box<dyn FnOnce() + Send>)));
    let on_wake = Arc::new(OnWake { thread, is_woken: AtomicBool::new(false), call });
    let waker = Waker::from(on_wake.clone());
    let mut release = pin!(guard.release()); // it wakes all of its callers once it is ready
    while release.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        while !on_wake.is_woken.swap(false, Ordering::Acquire) {
            thread::park(); // the call may take an `unpark`
        }
    }
}

#[test]
fn blocking_call_in_a_poll_is_sent() {
    let client = blocking::Client::new(Client::new(MemoryStore::new().client(Namespace::default()))).unwrap();
    let lock = blocking::SimpleLock::new("job", &client).unwrap();
    let (sender, called) = channel();
    thread::spawn(move || {
        while_releasing(move || {
            lock.lock().unwrap().unlock().unwrap();
            sender.send(()).unwrap();
        });
    });
    called.recv_timeout(LONG).expect("the call returns");
}

#[test]
fn last_drop_in_a_poll_sends_the_release() {
    let store = MemoryStore::new();
    let builder = Client::builder().drop_timeout(LONG);
    let lock = SimpleLock::new("job", &builder.build(store.client(Namespace::default()))).unwrap();
    let guard = block_on(lock.lock()).unwrap();
    drop(lock);
    let (sender, left) = channel();
    while_releasing(move || {
        guard.give_back(); // and drops the last handle of the client
        sender.send(store.resources()).unwrap();
    });
    assert_eq!(left.recv_timeout(LONG), Ok(0));
}
