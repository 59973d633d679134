//! `rlock acquire`, `rlock extend` and `rlock release`: a lock that no process extends.

use rlock::{AdoptError, Client, ConnectError, Guard, Lost, UnlockError};

use crate::args::{AcquireArgs, HandleArgs};
use crate::exit::Exit;
use crate::output::print;
use crate::report::{self, event, report};
use crate::run::acquire::{Upkeep, acquire as take};
use crate::run::connect::connect;
use crate::run::error::{RunError, shown};
use crate::run::refuse;
use crate::run::signals::Signals;

pub(crate) async fn acquire(mut args: AcquireArgs) -> Exit {
    if args.lock.json {
        report::in_json();
    }
    if args.lock.quiet {
        report::quietly();
    }
    args.lock.label.get_or_insert_with(|| "rlock acquire".into());
    acquire_and_print(&args).await.unwrap_or_else(|error| refuse(&args.lock, &error))
}

async fn acquire_and_print(args: &AcquireArgs) -> Result<Exit, RunError> {
    let lock = &args.lock;
    let mut signals = Signals::listen()?;
    let (client, started) = tokio::select! {
        connected = connect(lock) => connected?,
        signal = signals.next_to_end() => return Err(RunError::interrupted(lock, signal)),
    };
    let held = take(lock, Upkeep::default(), started, &client, &mut signals).await?;
    let guard = held.into_first().expect("the command line names one lock");
    guard.extend(lock.ttl.get()).await?;
    let handle = guard.into_handle().map_err(AdoptError::from)?;
    if print(&format!("{handle}\n")).is_ok() {
        return Ok(Exit::OK);
    }
    // Without its handle the lock would stay held until its TTL ends.
    let name = handle.resource();
    match client.adopt(&handle).await?.unlock().await {
        Ok(()) => event!("released", names: [name.as_str()]; "released {name}, since its handle was not printed"),
        Err(error) => report!("{error}"),
    }
    Ok(Exit::IO_ERROR)
}

pub(crate) async fn extend(args: HandleArgs) -> Exit {
    let extended = adopt(&args).await.and_then(|guard| {
        let (name, remaining) = (guard.resource().clone(), guard.remaining());
        guard.into_handle()?;
        event!("extended", name: name.as_str(); "extended {name} for {}", shown(remaining));
        Ok(())
    });
    exit(extended)
}

pub(crate) async fn release(args: HandleArgs) -> Exit {
    let released = async {
        let guard = adopt(&args).await?;
        let name = guard.resource().clone();
        guard.unlock().await?;
        event!("released", names: [name.as_str()]; "released {name}");
        Ok(())
    };
    exit(released.await)
}

async fn adopt(args: &HandleArgs) -> Result<Guard, HandleError> {
    if args.json {
        report::in_json();
    }
    let handle = args.ttl.map_or_else(|| args.handle.clone(), |ttl| args.handle.clone().with_ttl(ttl));
    let client = rlock::connect_with(args.store.url(), Client::builder()).await?;
    Ok(client.adopt(&handle).await?)
}

/// Why the lock of a handle was not extended or released.
#[derive(Debug, thiserror::Error)]
enum HandleError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error(transparent)]
    Unlock(#[from] UnlockError),
}

fn exit(outcome: Result<(), HandleError>) -> Exit {
    let Err(error) = outcome else { return Exit::OK };
    report!("{error}");
    match error {
        HandleError::Connect(error) => Exit::of_connect_error(&error),
        HandleError::Adopt(AdoptError::Lock(error)) => Exit::of_lock_error(&error),
        HandleError::Adopt(_) | HandleError::Lost(_) | HandleError::Unlock(UnlockError::Lost(_)) => Exit::LOCK_LOST,
        HandleError::Unlock(_) => Exit::IO_ERROR,
    }
}
