//! Taking the lock, and waiting for it.

use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::time::Duration;

use rlock::{Client, Guard, LockError, LockOptions, Owner, ResourceName, RwLock, Semaphore, SimpleLock, Snapshot};
use tokio::time::{Instant, sleep};

use super::{RunError, label};
use crate::args::RunArgs;
use crate::report::{self, event};
use crate::run::held::Held;
use crate::run::signals::Signals;

/// After so long, it is said that this waits.
const UNREMARKABLE: Duration = Duration::from_millis(100);
/// And so often it is shown on a terminal how that goes.
const REFRESH: Duration = Duration::from_secs(1);

/// The locks, with enough of their leases left to start a program.
pub(super) async fn acquire(args: &RunArgs, client: &Client, signals: &mut Signals) -> Result<Held, RunError> {
    let end = args.wait.map(|wait| Instant::now() + wait);
    let mut guards = Vec::new();
    for name in args.names() {
        let mut taking = pin!(take(args, &name, end, client));
        let mut announcing = pin!(announce(args, &name, client));
        let mut is_announced = args.once;
        let guard = loop {
            tokio::select! {
                biased; // a signal that came before the lock is not the program's
                signal = signals.next_to_end() => return Err(RunError::interrupted(args, signal)),
                guard = &mut taking => break guard?,
                () = &mut announcing, if !is_announced => is_announced = true,
            }
        };
        event!("acquired", name: name.as_str(), token: guard.token().get(); "acquired {name} (token {})", guard.token());
        guards.push(guard);
    }
    let held = Held::new(guards);
    // The lease of a waiter lives on as it is when it is granted.
    if held.remaining() < args.ttl.get() / 2 {
        held.extend(args.ttl.get()).await?;
    }
    Ok(held)
}

async fn take(args: &RunArgs, name: &ResourceName, end: Option<Instant>, client: &Client) -> Result<Guard, RunError> {
    let options = LockOptions::new().ttl(args.ttl.get());
    let options = args.interval.into_iter().fold(options, LockOptions::watchdog_interval);
    if args.once {
        let guard = try_take(args, name, client, options).await?;
        return guard.ok_or_else(|| RunError::Busy { name: name.clone() });
    }
    let left = end.map(|end| end.saturating_duration_since(Instant::now()));
    let options = left.into_iter().fold(options, LockOptions::wait);
    if let Some(slots) = args.slots {
        return Ok(semaphore(name, slots, client)?.acquire_many_with(1, options).await?);
    }
    match (args.shared, args.exclusive) {
        (true, _) => Ok(rw_lock(name, client)?.read_with(options).await?),
        (_, true) => Ok(rw_lock(name, client)?.write_with(options).await?),
        _ => Ok(mutex(name, client)?.lock_with(options).await?),
    }
}

async fn try_take(
    args: &RunArgs,
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

/// Says once what this waits for, and on a terminal shows it from then on.
async fn announce(args: &RunArgs, name: &ResourceName, client: &Client) {
    sleep(UNREMARKABLE).await;
    match client.inspect(name).await {
        Ok(snapshot) => {
            let (holders, queue) = (snapshot.holders.len(), snapshot.queue.len());
            let by = if holders > 0 { format!(", {}; {queue} in the queue", held(&snapshot)) } else { String::new() };
            event!("waiting", name: name.as_str(), holders: holders, queue: queue; "waiting for {name}{by}");
        }
        Err(error) => event!("waiting", name: name.as_str(); "waiting for {name}: {error}"),
    }
    if !io::stderr().is_terminal() {
        return;
    }
    let own = Owner::current().with_label(&label(args));
    loop {
        sleep(REFRESH).await;
        match client.inspect(name).await {
            Ok(snapshot) if snapshot.holders.is_empty() => {}
            Ok(snapshot) => {
                let place = snapshot.queue.iter().position(|waiter| waiter.owner == own);
                let place = place.map_or_else(|| "in the queue".into(), |place| format!("place {}", place + 1));
                report::pass(&format!("waiting for {name}: {place} of {}, {}", snapshot.queue.len(), held(&snapshot)));
            }
            Err(error) => report::pass(&format!("waiting for {name}: {error}")),
        }
    }
}

/// By whom, and for how long.
fn held(snapshot: &Snapshot) -> String {
    let seconds = |time: Duration| humantime::format_duration(Duration::from_secs(time.as_secs()));
    let others = match snapshot.holders.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let first = snapshot.holders.first();
    first
        .map_or_else(String::new, |holder| format!("held by {}{others} for {}", holder.owner, seconds(holder.held_for)))
}
