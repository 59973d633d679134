//! Taking the lock, and waiting for it.

use std::pin::pin;
use std::time::Duration;

use rlock::{Client, Guard, LockError, LockOptions, SimpleLock};

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
    let lock = SimpleLock::new(&args.name, client).map_err(LockError::from)?;
    let options = LockOptions::new().ttl(args.ttl.get());
    if args.once {
        return lock.try_lock_with(options).await?.ok_or_else(|| RunError::Busy { name: args.name.clone() });
    }
    Ok(lock.lock_with(args.wait.into_iter().fold(options, LockOptions::wait)).await?)
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
