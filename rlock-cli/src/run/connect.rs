//! Connecting to the store.

use std::time::Duration;

use rlock::{Client, ConnectError};
use tokio::time::{Instant, sleep, timeout};

use crate::args::LockArgs;
use crate::report::event;
use crate::run::held::joined;

/// The pause between two attempts. An attempt has a time limit of its own.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Connects to the store. If the store does not answer, a candidate retries without a limit, and a program with
/// `--wait` until that time is over. Both report that once.
///
/// Returns the client, and the instant from which the wait for the lock counts: now, unless the store did not answer at
/// first.
///
/// # Errors
///
/// The last error: the first of a program without `--wait`, and the first refusal of the store.
pub(crate) async fn connect(args: &LockArgs) -> Result<(Client, Instant), ConnectError> {
    let started = Instant::now();
    let left = || match args.wait {
        Some(wait) => wait.saturating_sub(started.elapsed()),
        None if args.is_campaign => Duration::MAX,
        None => Duration::ZERO,
    };
    let label = args.label.as_deref().unwrap_or_default();
    let attempt = || rlock::connect_with(args.store.url(), Client::builder().label(label));
    let mut connected = attempt().await;
    let mut is_failing = false;
    loop {
        let error = match connected {
            Err(error) if error.is_unavailable() => error,
            Err(error) => return Err(error),
            Ok(client) => return Ok((client, if is_failing { started } else { Instant::now() })),
        };
        if left().is_zero() {
            return Err(error);
        }
        if !std::mem::replace(&mut is_failing, true) {
            let names: Vec<_> = args.names().iter().map(ToString::to_string).collect();
            let shown = joined(names.iter(), ", ");
            event!("unavailable", names: names; "waiting for {shown}, and the store does not answer: {error}");
        }
        sleep(left().min(RETRY_AFTER)).await;
        connected = timeout(left(), attempt()).await.unwrap_or(Err(error));
    }
}
