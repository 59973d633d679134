//! Taking the lock, and waiting for it.

use std::pin::pin;
use std::time::Duration;

use rlock::{
    BackendError, Client, Guard, LockError, LockOptions, ResourceName, RwLock, Semaphore, SimpleLock, WatchdogConfig,
};
use tokio::time::{Instant, sleep};

use super::error::RunError;
use super::waiting::{announce, holders};
use crate::args::LockArgs;
use crate::report::event;
use crate::run::held::Held;
use crate::run::signals::Signals;

/// The time between two tries while the lock is in use with another number of slots, or the store does not answer.
const NEXT_TRY: Duration = Duration::from_millis(500);

/// Settings for keeping a lock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Upkeep {
    /// The time between two extensions.
    pub(crate) interval: Option<Duration>,
    /// The minimum time for which the lock stays taken.
    pub(crate) min_hold: Option<Duration>,
}

/// Takes the locks, and returns them with enough of each lease left to start a program. The wait counts from
/// `started`.
///
/// It takes one after the other, in the order of their names, and holds them as a `LockSet` does. A set claims all of them
/// at once, reports nothing before it has all of them, begins again after a loss, and gives up its locks when one of them
/// fails. A run claims no lock behind the one that it waits for. It names that lock, ends with a loss, and waits on
/// while the store does not answer. As a set, a run that fails leaves no rest.
pub(crate) async fn acquire(
    args: &LockArgs,
    upkeep: Upkeep,
    started: Instant,
    client: &Client,
    signals: &mut Signals,
) -> Result<Held, RunError> {
    let mut held = Held::new(Vec::new());
    match take_all(args, upkeep, started, client, signals, &mut held).await {
        Ok(()) => Ok(held),
        Err(error) => {
            held.give_back();
            Err(error)
        }
    }
}

/// Takes the locks, and adds each of them to `held`.
async fn take_all(
    args: &LockArgs,
    upkeep: Upkeep,
    started: Instant,
    client: &Client,
    signals: &mut Signals,
    held: &mut Held,
) -> Result<(), RunError> {
    for name in args.names() {
        let mut taking = pin!(take(args, upkeep, &name, started, client));
        let mut announcing = pin!(announce(args, &name, client));
        let mut lost = pin!(held.lost());
        let mut is_announced = args.once;
        let guard = loop {
            tokio::select! {
                biased; // a signal that came before the lock is not the program's
                signal = signals.next_to_end() => return Err(RunError::interrupted(args, signal)),
                guard = &mut taking => break guard?,
                lost = &mut lost => return Err(RunError::LostWhileWaiting { lost, name: name.clone() }),
                () = &mut announcing, if !is_announced => is_announced = true,
            }
        };
        event!("acquired", name: name.as_str(), token: guard.token().get(); "acquired {name} (token {})", guard.token());
        held.push(guard);
    }
    // A grant does not extend the lease of a waiter.
    if held.remaining() < args.ttl.get() / 2 {
        held.extend(args.ttl.get()).await?;
    }
    Ok(())
}

async fn take(
    args: &LockArgs,
    upkeep: Upkeep,
    name: &ResourceName,
    started: Instant,
    client: &Client,
) -> Result<Guard, RunError> {
    let options = options(args, upkeep, client);
    let (mut is_said, mut is_failing) = (false, false);
    loop {
        let taken = if args.once {
            try_take(args, name, client, options.clone()).await
        } else {
            // The longest wait is no limit, and waits for a late first answer as well.
            let left = args.wait.map_or(Duration::MAX, |wait| wait.saturating_sub(started.elapsed()));
            wait_for(args, name, client, options.clone().wait(left)).await.map(Some)
        };
        let is_over = args.once || args.wait.is_some_and(|wait| started.elapsed() >= wait);
        match taken {
            Ok(Some(guard)) => {
                watch(args, upkeep, client, &guard)?;
                return Ok(guard);
            }
            Ok(None) => {
                let holders = holders(name, client).await.unwrap_or_else(|_| "held by others".into());
                return Err(RunError::Busy { name: name.clone(), holders });
            }
            Err(LockError::TimedOut { .. }) => return Err(timed_out(args, name, started.elapsed(), client).await),
            Err(LockError::Unavailable { source, .. }) if !is_over => {
                if !std::mem::replace(&mut is_failing, true) {
                    event!("unavailable", name: name.as_str(); "waiting for {name}: {source}");
                }
                sleep(NEXT_TRY).await;
            }
            Err(LockError::Unavailable { source, .. }) => {
                return Err(RunError::Unreachable { name: name.clone(), waited: started.elapsed(), source });
            }
            Err(LockError::Rejected { source: BackendError::CapacityMismatch { actual, .. }, .. }) => {
                let Some(holders) = other_slots(args, actual) else {
                    return Err(RunError::OtherKind { name: name.clone(), kind: kind_of(actual) });
                };
                if is_over {
                    return Err(RunError::Busy { name: name.clone(), holders });
                }
                if !std::mem::replace(&mut is_said, true) {
                    event!("waiting", name: name.as_str(), capacity: actual; "waiting for {name}, {holders}");
                }
                sleep(NEXT_TRY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// With a minimum hold, the lease lives for at least that time, so that the store keeps the lock of a dead holder. The
/// watchdog extends it by the TTL, which never shortens it.
fn options(args: &LockArgs, upkeep: Upkeep, client: &Client) -> LockOptions {
    let options = args
        .data
        .iter()
        .filter(|data| !data.is_empty())
        .fold(LockOptions::new(), |options, data| options.data(data.as_bytes()));
    match upkeep.min_hold.filter(|_| client.capabilities().rest) {
        Some(min_hold) => options.ttl(args.ttl.get().max(min_hold)).watchdog(false).hold_at_least(min_hold),
        None => upkeep.interval.into_iter().fold(options.ttl(args.ttl.get()), LockOptions::watchdog_interval),
    }
}

fn watch(args: &LockArgs, upkeep: Upkeep, client: &Client, guard: &Guard) -> Result<(), RunError> {
    if upkeep.min_hold.is_some() && client.capabilities().rest {
        let config = WatchdogConfig {
            interval: Some(upkeep.interval.unwrap_or(args.ttl.get() / 3)),
            extend_by: Some(args.ttl.get()),
            max_failures: u32::MAX,
            ..WatchdogConfig::new()
        };
        guard.start_watchdog(config).map_err(RunError::Watchdog)?;
    }
    Ok(())
}

/// Describes the holders if they use another number of slots, as during a change of that number.
fn other_slots(args: &LockArgs, actual: u32) -> Option<String> {
    let is_of_slots = !args.shared && !args.exclusive && actual != RwLock::MAX_READERS;
    is_of_slots.then(|| format!("held with --slots {actual}"))
}

fn kind_of(capacity: u32) -> String {
    match capacity {
        1 => "a plain lock, not one of --shared and --exclusive".into(),
        RwLock::MAX_READERS => "a lock of --shared and --exclusive".into(),
        slots => format!("a lock with --slots {slots}"),
    }
}

async fn timed_out(args: &LockArgs, name: &ResourceName, waited: Duration, client: &Client) -> RunError {
    let name = name.clone();
    match holders(&name, client).await {
        Ok(holders) => RunError::TimedOut { name, waited, holders },
        Err(Some(source)) => RunError::Unreachable { name, waited, source },
        Err(None) => {
            let store = args.store.shown();
            let source = BackendError::Unknown(rlock::Failure::new("inspect", store, "the store does not answer"));
            RunError::Unreachable { name, waited, source }
        }
    }
}

async fn wait_for(
    args: &LockArgs,
    name: &ResourceName,
    client: &Client,
    options: LockOptions,
) -> Result<Guard, LockError> {
    if let Some(slots) = args.slots {
        return semaphore(name, slots, client)?.acquire_many_with(1, options).await;
    }
    match (args.shared, args.exclusive) {
        (true, _) => rw_lock(name, client)?.read_with(options).await,
        (_, true) => rw_lock(name, client)?.write_with(options).await,
        _ => mutex(name, client)?.lock_with(options).await,
    }
}

async fn try_take(
    args: &LockArgs,
    name: &ResourceName,
    client: &Client,
    options: LockOptions,
) -> Result<Option<Guard>, LockError> {
    if let Some(slots) = args.slots {
        return semaphore(name, slots, client)?.try_acquire_many_with(1, options).await;
    }
    match (args.shared, args.exclusive) {
        (true, _) => rw_lock(name, client)?.try_read_with(options).await,
        (_, true) => rw_lock(name, client)?.try_write_with(options).await,
        _ => mutex(name, client)?.try_lock_with(options).await,
    }
}

fn mutex(name: &ResourceName, client: &Client) -> Result<SimpleLock, LockError> {
    Ok(SimpleLock::new(name, client)?)
}

fn rw_lock(name: &ResourceName, client: &Client) -> Result<RwLock, LockError> {
    Ok(RwLock::new(name, client)?)
}

fn semaphore(name: &ResourceName, slots: u32, client: &Client) -> Result<Semaphore, LockError> {
    Ok(Semaphore::new(name, slots, client)?)
}
