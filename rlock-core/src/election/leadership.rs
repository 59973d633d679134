//! The leadership of a client.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::contract::Token;
use crate::error::UnlockError;
use crate::lease::{LossReason, Lost};
use crate::lock::Guard;

/// The leadership of a client in an [`Election`](crate::Election), for as long as this value lives. Dropping it resigns
/// in the background, as dropping a [`Guard`] does.
///
/// A leadership can be lost, as a lock can. The deadline of its lease passes at the latest when the store may grant the
/// next leadership. A leader that was frozen may act after its deadline before it checks. So the system that it acts on
/// has to reject [tokens](Self::token) smaller than the greatest that it has seen.
#[derive(Debug)]
#[must_use = "dropping the leadership resigns: bind it to a name, as in `let leadership = …`"]
pub struct Leadership(Guard);

impl Leadership {
    pub(super) fn new(guard: Guard) -> Self {
        Self(guard)
    }

    /// The fencing token of this leadership: greater than that of every leader before.
    pub fn token(&self) -> Token {
        self.0.token()
    }

    /// Whether this client leads at this instant, by its own clock and the answers of the store.
    pub fn is_leader(&self) -> bool {
        self.0.is_held()
    }

    /// `Ok` while this client leads; for `?` between two steps of the work.
    ///
    /// # Errors
    ///
    /// [`Lost`], with the reason, once this client does not lead.
    pub fn check(&self) -> Result<(), Lost> {
        self.0.check()
    }

    /// The time for which this client leads at least, unless the store ends the leadership before.
    pub fn remaining(&self) -> Duration {
        self.0.remaining()
    }

    /// Resolves when the leadership is lost. See [`Guard::lost`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub fn lost(&self) -> impl Future<Output = LossReason> + Send + 'static {
        self.0.lost()
    }

    /// A token that is cancelled when the leadership is lost, and not when it is resigned.
    pub fn cancellation_token(&self) -> CancellationToken {
        self.0.cancellation_token()
    }

    /// Runs `work` while this client leads, and resigns after `work` has ended. When the leadership is lost first,
    /// `work` is dropped.
    ///
    /// # Errors
    ///
    /// As for [`Guard::run`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Guard::run`].
    pub async fn run<T>(self, work: impl Future<Output = T>) -> Result<T, Lost> {
        self.0.run(work).await
    }

    /// Resigns after work that has ended with `output`.
    pub(crate) async fn resign_after<T>(self, output: T) -> Result<T, Lost> {
        self.0.release_after(output).await
    }

    /// Resigns, so that the next candidate leads, and reports whether this client led until then.
    /// [`Guard::release`] of the [`guard`](Self::guard) resigns by reference.
    ///
    /// # Errors
    ///
    /// As for [`Guard::unlock`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Guard::unlock`].
    pub async fn resign(self) -> Result<(), UnlockError> {
        self.0.unlock().await
    }

    /// The lock by which this client leads.
    pub fn guard(&self) -> &Guard {
        &self.0
    }
}
