//! Releasing the locks.

use std::time::Duration;

use rlock::{Client, UnlockError};

use super::error::shown;
use super::held::Held;
use super::signals::Signals;
use crate::args::RunArgs;
use crate::report::event;

/// The outcome of the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Released,
    /// One of them had been lost before.
    Lost,
    /// The store has not confirmed it in time.
    Unconfirmed,
}

/// Releases the locks. If the store does not answer, retries until the locks expire, or for the time of
/// `--release-for`.
pub(super) async fn release(args: &RunArgs, client: &Client, held: Held, signals: &mut Signals) -> Ended {
    let (names, list, remaining) = (held.names(), held.list(), held.remaining());
    let patience = args.release_for.unwrap_or(remaining);
    let asked = tokio::time::Instant::now();
    let error = match held.unlock().await {
        Ok(true) => {
            event!("released", names: list; "released {names}");
            return Ended::Released;
        }
        Ok(false) => None,
        Err(UnlockError::Lost(lost)) => {
            event!("lost", name: lost.resource.as_str(), reason: lost.reason.as_str(); "{lost}");
            return Ended::Lost;
        }
        Err(error) => Some(error),
    };
    let left = |of: Duration| of.saturating_sub(asked.elapsed());
    if let Some(error) = error.filter(|_| !left(patience).is_zero()) {
        let until = shown(Duration::from_secs(left(patience).as_secs()));
        event!("not_released", names: list; "could not release {names} yet, retrying for {until}: {error}");
        let confirmed = tokio::select! {
            biased; // a confirmed release counts, although a signal came with it
            confirmed = client.shutdown(left(patience)) => confirmed.is_ok(),
            _ = signals.next_to_end() => false,
        };
        if confirmed && !left(remaining).is_zero() {
            event!("released", names: list; "released {names}");
            return Ended::Released;
        }
    }
    let ends = match left(remaining) {
        Duration::ZERO => "it has ended by itself".into(),
        left => format!("it ends by itself in {}", shown(left)),
    };
    event!("not_released", names: list; "could not release {names}; {ends}");
    Ended::Unconfirmed
}
