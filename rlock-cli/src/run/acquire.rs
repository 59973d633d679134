//! Taking the lock, and waiting for it.

use std::pin::pin;
use std::time::Duration;

use rlock::{Client, Guard, LockError, LockOptions, RwLock, Semaphore, SimpleLock};

use super::RunError;
use crate::args::RunArgs;
use crate::report::report;
use crate::run::signals::Signals;

/// After so long, it is said that this waits.
const UNREMARKABLE: Duration = Duration::from_millis(100);

/// The lock, with enough of its lease left to start a program.
pub(super) async fn acquire(args: &RunArgs, client: &Client, signals: &mut Signals) -> Result<Guard, RunError> {
    let mut taking = pin!(take(args, client));
    let mut announcing = pin!(announce(args, client));
    let mut is_announced = args.once;
    let guard = loop {
        tokio::select! {
            biased; // a signal that came before the lock is not the program's
            signal = signals.next_to_end() => return Err(RunError::interrupted(args, signal)),
            guard = &mut taking => break guard?,
            () = &mut announcing, if !is_announced => is_announced = true,
        }
    };
    // The lease of a waiter lives on as it is when it is granted.
    if guard.remaining() < args.ttl.get() / 2 {
        guard.extend(args.ttl.get()).await?;
    }
    Ok(guard)
}

async fn take(args: &RunArgs, client: &Client) -> Result<Guard, RunError> {
    let options = LockOptions::new().ttl(args.ttl.get());
    let options = args.interval.into_iter().fold(options, LockOptions::watchdog_interval);
    if args.once {
        let guard = try_take(args, client, options).await?;
        return guard.ok_or_else(|| RunError::Busy { name: args.name.clone() });
    }
    let options = args.wait.into_iter().fold(options, LockOptions::wait);
    if let Some(slots) = args.slots {
        return Ok(semaphore(args, slots, client)?.acquire_many_with(1, options).await?);
    }
    match (args.shared, args.exclusive) {
        (true, _) => Ok(rw_lock(args, client)?.read_with(options).await?),
        (_, true) => Ok(rw_lock(args, client)?.write_with(options).await?),
        _ => Ok(mutex(args, client)?.lock_with(options).await?),
    }
}

async fn try_take(args: &RunArgs, client: &Client, options: LockOptions) -> Result<Option<Guard>, LockError> {
    if let Some(slots) = args.slots {
        return semaphore(args, slots, client)?.try_acquire_many_with(1, options).await;
    }
    match (args.shared, args.exclusive) {
        (true, _) => rw_lock(args, client)?.try_read_with(options).await,
        (_, true) => rw_lock(args, client)?.try_write_with(options).await,
        _ => mutex(args, client)?.try_lock_with(options).await,
    }
}

fn mutex(args: &RunArgs, client: &Client) -> Result<SimpleLock, LockError> {
    Ok(SimpleLock::new(&args.name, client)?)
}

fn rw_lock(args: &RunArgs, client: &Client) -> Result<RwLock, LockError> {
    Ok(RwLock::new(&args.name, client)?)
}

fn semaphore(args: &RunArgs, slots: u32, client: &Client) -> Result<Semaphore, LockError> {
    Ok(Semaphore::new(&args.name, slots, client)?)
}

async fn announce(args: &RunArgs, client: &Client) {
    tokio::time::sleep(UNREMARKABLE).await;
    let name = &args.name;
    match client.inspect(name).await {
        Ok(snapshot) => match snapshot.holders.first() {
            Some(holder) => {
                let held_for = humantime::format_duration(Duration::from_secs(holder.held_for.as_secs()));
                report!(
                    "waiting for {name}, held by {} for {held_for}; {} in the queue",
                    holder.owner,
                    snapshot.queue.len()
                );
            }
            None => report!("waiting for {name}"),
        },
        Err(error) => report!("waiting for {name}: {error}"),
    }
}
