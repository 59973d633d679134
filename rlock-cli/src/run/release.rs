//! Giving the locks back.

use std::time::Duration;

use rlock::{Client, UnlockError};

use super::error::shown;
use super::held::Held;
use super::signals::Signals;
use crate::args::RunArgs;
use crate::report::{event, report};

/// What came of giving the locks back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Released,
    /// One of them had been lost before.
    Lost,
    /// The store has not confirmed it.
    Unconfirmed,
}

/// Releases the locks. A store that does not answer is asked again until the locks end by themselves, or for the time that
/// the user allows.
pub(super) async fn release(args: &RunArgs, client: &Client, held: Held, signals: &mut Signals) -> Ended {
    let (names, list, remaining) = (held.names(), held.list(), held.remaining());
    let patience = args.release_for.unwrap_or(remaining);
    let asked = tokio::time::Instant::now();
    let error = match held.unlock().await {
        Ok(()) => {
            event!("released", names: list; "released {names}");
            return Ended::Released;
        }
        Err(error @ UnlockError::Lost(_)) => {
            report!("{error}");
            return Ended::Lost;
        }
        Err(error) => error,
    };
    let left = |of: Duration| of.saturating_sub(asked.elapsed());
    if !left(patience).is_zero() {
        let until = shown(Duration::from_secs(left(patience).as_secs()));
        event!("not_released", names: list; "could not release {names} yet, trying for {until}: {error}");
        let confirmed = tokio::select! {
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
