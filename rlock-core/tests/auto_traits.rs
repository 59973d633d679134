//! The public types can be moved to other threads and printed, and the futures can be spawned.

use std::fmt::Debug;
use std::future::ready;
use std::time::Duration;

use rlock_core::{
    Acquired, AdoptError, BackendError, Backoff, Capabilities, Cause, Claim, Client, ClientBuilder, Clock,
    ConnectError, Cursor, Election, End, Entry, Event, Events, ExtendError, Extended, Extension, ExtensionFailure,
    Failure, Finding, Grant, Guard, Holder, IfBusy, InvalidConfig, InvalidData, InvalidHandle, InvalidName,
    InvalidOption, InvalidShare, InvalidTtl, Leader, Leadership, LeaseData, LeaseId, LeaseKey, ListFilter, LockError,
    LockHandle, LockOptions, LockSet, LockSetGuard, LossReason, Lost, MemoryBackend, MemoryBaseline, MemoryStore,
    Moment, Namespace, Observation, Owner, Page, Place, QueuePlace, Release, Released, ResourceName, RunError, RwLock,
    Semaphore, ServerClock, Share, ShutdownError, SimpleLock, Snapshot, StartError, StartWatchdogError, TlsFiles,
    Token, Ttl, UnlockError, Verdict, Waiter, Watchdog, WatchdogConfig, WatchdogFailure, WatchdogManager,
    WatchdogStats, WatchdogStatus, blocking, metrics,
};

const SECOND: Duration = Duration::from_secs(1);

fn is_shared<T: Debug + Send + Sync>() {}

fn is_moved<T: Debug + Send>() {}

fn is_spawned(_future: impl Future<Output: Send> + Send) {}

macro_rules! are_shared {
    ($($shared:ty),* $(,)?) => { $(is_shared::<$shared>();)* };
}

#[test]
fn public_types_are_send_and_debug() {
    are_shared!(Client, ClientBuilder, Clock, Guard, LockOptions, LockSet, LockSetGuard, Moment, QueuePlace);
    are_shared!(RwLock, Semaphore, SimpleLock, Watchdog, WatchdogConfig, WatchdogFailure, ExtensionFailure);
    are_shared!(WatchdogManager, WatchdogStats, WatchdogStatus, metrics::Metrics, metrics::Stats, metrics::LockStats);
    are_shared!(Election, Leader, Leadership, Observation);
    are_shared!(Acquired, Capabilities, Claim, Cursor, End, Entry, Event, Events, Extended, Extension, Finding, Grant);
    are_shared!(Holder, IfBusy, LeaseData, LeaseId, LeaseKey, ListFilter, LockHandle, LossReason, Lost, Namespace);
    are_shared!(Owner, Page, Place, Release, Released, ResourceName, Share, Snapshot, Token, Ttl, Verdict, Waiter);
    are_shared!(Backoff, MemoryBackend, MemoryBaseline, MemoryStore, ServerClock, TlsFiles);
    are_shared!(AdoptError, BackendError, Cause, ConnectError, ExtendError, Failure, LockError, RunError, UnlockError);
    are_shared!(InvalidConfig, InvalidData, InvalidHandle, InvalidName, InvalidOption, InvalidShare, InvalidTtl);
    are_shared!(ShutdownError, StartError, StartWatchdogError);
}

#[test]
fn blocking_types_are_send_and_debug() {
    are_shared!(blocking::Client, blocking::Guard, blocking::LockSet, blocking::LockSetGuard, blocking::NoThread);
    are_shared!(blocking::Election, blocking::Leadership);
    are_shared!(blocking::RwLock, blocking::Semaphore, blocking::SimpleLock);
    is_moved::<blocking::Observations>();
    is_moved::<blocking::Snapshots>();
}

/// The compiler checks the closures, which nothing calls.
#[test]
fn futures_can_be_spawned() {
    let _of_locks = |lock: &SimpleLock, pages: &RwLock, pool: &Semaphore| {
        is_spawned(lock.lock_with(LockOptions::new()));
        is_spawned(lock.try_lock_with(LockOptions::new()));
        is_spawned(lock.try_run(ready(())));
        is_spawned(lock.snapshot());
        is_spawned(lock.holders());
        is_moved_stream(lock.watch());
        is_spawned(pages.read());
        is_spawned(pages.write());
        is_spawned(pages.try_run_read(ready(())));
        is_spawned(pages.try_run_write(ready(())));
        is_spawned(pool.acquire_many(1));
        is_spawned(pool.try_run_many_with(1, LockOptions::new(), ready(())));
    };
    let _of_guards = |shared: &Guard, run: Guard, unlocked: Guard| {
        is_spawned(shared.lost());
        is_spawned(shared.ended());
        is_spawned(shared.extend(SECOND));
        is_spawned(shared.release());
        is_spawned(run.run(ready(())));
        is_spawned(unlocked.unlock());
    };
    let _of_sets = |set: &LockSet, shared: &LockSetGuard, run: LockSetGuard, unlocked: LockSetGuard| {
        is_spawned(set.lock_with(LockOptions::new()));
        is_spawned(set.try_lock_with(LockOptions::new()));
        is_spawned(set.try_run(ready(())));
        is_spawned(shared.lost());
        is_spawned(shared.ended());
        is_spawned(shared.extend(SECOND));
        is_spawned(shared.release());
        is_spawned(run.run(ready(())));
        is_spawned(unlocked.unlock());
    };
    let _of_elections = |election: &Election, run: Leadership, resigned: Leadership| {
        is_spawned(election.campaign("one"));
        is_spawned(election.lead("one", LockOptions::new(), |_| ready(())));
        is_spawned(election.leader());
        is_moved_stream(election.observe());
        is_spawned(run.lost());
        is_spawned(run.run(ready(())));
        is_spawned(resigned.resign());
    };
    let _of_clients = |client: &Client, handle: &LockHandle| {
        is_spawned(client.adopt(handle));
        is_spawned(client.drain(SECOND, SECOND));
        is_spawned(client.shutdown(SECOND));
        is_spawned(client.break_leases("job"));
        is_spawned(client.examine());
    };
}

fn is_moved_stream(_stream: impl futures_util::Stream + Send) {}
