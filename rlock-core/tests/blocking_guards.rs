//! Held locks of blocking code: listed, renewed, given back, and taken again after an outage.

mod support;

use std::sync::mpsc;
use std::time::Duration;

use rlock_core::blocking::{Client, Election, LockSet, RwLock, Semaphore, SimpleLock};
use rlock_core::{Holder, ListFilter, LockOptions, MemoryStore, Namespace, WatchdogConfig};

use support::{Fate, Script, Scripted, Verb};

const LONG: Duration = Duration::from_secs(30);

fn client() -> Client {
    Client::new(rlock_core::Client::new(MemoryStore::new().client(Namespace::default()))).unwrap()
}

#[test]
fn held_locks_are_listed() {
    let client = client();
    let _guards = ["page/1", "page/2", "job"].map(|name| SimpleLock::new(name, &client).unwrap().lock().unwrap());
    let filter = ListFilter { prefix: "page/".to_owned(), limit: 10, ..ListFilter::default() };
    let page = client.list(&filter).unwrap();
    let mut names: Vec<_> = page.entries.iter().map(|entry| entry.resource.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["page/1", "page/2"]);
}

#[test]
fn holders_are_shown() {
    let client = client();
    let (lock, pages) = (SimpleLock::new("job", &client).unwrap(), RwLock::new("pages", &client).unwrap());
    let pool = Semaphore::new("pool", 2, &client).unwrap();
    let (guard, reader) = (lock.lock().unwrap(), pages.read().unwrap());
    let permit = pool.try_acquire_with(LockOptions::new().label("batch")).unwrap().expect("a permit is free");
    let tokens = |holders: Vec<Holder>| holders.iter().map(|holder| holder.token).collect::<Vec<_>>();
    assert_eq!(tokens(lock.holders().unwrap()), [guard.token()]);
    assert_eq!(tokens(pages.holders().unwrap()), [reader.token()]);
    let holders = pool.holders().unwrap();
    assert_eq!(holders[0].owner.label(), Some("batch"));
    assert_eq!(tokens(holders), [permit.token()]);
}

#[test]
fn started_watchdog_extends_the_lock() {
    let lock = SimpleLock::new("job", &client()).unwrap();
    let guard = lock.lock_with(LockOptions::new().ttl(LONG).watchdog(false)).unwrap();
    assert!(guard.watchdog().is_none());
    let (extended, seen) = mpsc::channel();
    let config = WatchdogConfig { interval: Some(Duration::from_millis(10)), ..WatchdogConfig::new() };
    let watchdog = guard.start_watchdog(config.on_success(move || _ = extended.send(()))).unwrap();
    seen.recv_timeout(LONG).expect("it extends the lock");
    let status = watchdog.status();
    assert!(status.is_running && status.extend_count > 0, "{status:?}");
    watchdog.stop();
    assert!(guard.watchdog().is_none() && guard.is_held());
    guard.unlock().unwrap();
}

#[test]
fn locks_of_a_set_are_extended() {
    let set = LockSet::new(&client()).mutex("one").unwrap().mutex("two").unwrap();
    let guard = set.lock_with(LockOptions::new().ttl(LONG)).unwrap();
    let left = guard.extend(LONG * 4).unwrap();
    assert!(left > LONG * 3 && guard.remaining() > LONG * 3, "{left:?}");
    guard.unlock().unwrap();
}

#[test]
fn lock_given_back_is_free_at_once() {
    let lock = SimpleLock::new("job", &client()).unwrap();
    let resting = LockOptions::new().ttl(LONG).hold_at_least(LONG);
    lock.lock_with(resting.clone()).unwrap().give_back();
    lock.lock_with(resting.wait(LONG / 3)).expect("it does not rest").unlock().unwrap();
}

#[test]
fn outage_ends_the_term_and_not_the_leading() {
    const CLAIMS: usize = 20; // more than one campaign sends within its `retry_for`
    let (backend, script) = Scripted::client_of(&MemoryStore::new());
    let builder = rlock_core::Client::builder().retry_for(Duration::from_millis(50));
    let client = Client::new(builder.build(backend)).unwrap();
    let options = LockOptions::new().ttl(Duration::from_millis(300));
    let decide = |script: &Script, fate| {
        for verb in [Verb::Acquire, Verb::Extend] {
            script.decide(verb, fate);
        }
    };
    let mut terms = 0;
    let led = Election::new("scheduler", &client).unwrap().lead("", options, |leadership| {
        terms += 1;
        if terms > 1 {
            return;
        }
        decide(&script, Fate::Failed);
        assert!(leadership.wait_lost(LONG).is_some());
        let script = script.clone();
        std::thread::spawn(move || {
            while script.sizes(Verb::Acquire).len() < CLAIMS {
                std::thread::sleep(Duration::from_millis(1));
            }
            decide(&script, Fate::Answered);
        });
    });
    led.unwrap();
    assert!(terms > 1, "it leads again");
}
