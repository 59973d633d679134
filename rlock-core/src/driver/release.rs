//! Releases, for guards.

use std::sync::Arc;

use super::step::Sending;
use super::{Driver, Slot};
use crate::error::UnlockError;
use crate::lease::{Input, LossReason, Lost, Phase, ReleaseOutcome};

impl Driver {
    /// Releases a held lock. The release is sent whether or not the caller awaits the outcome.
    pub(crate) fn unlock(self: &Arc<Self>, slot: &Arc<Slot>) -> impl Future<Output = Result<(), UnlockError>> + use<> {
        self.step(slot, Input::LetGo, Sending::Here);
        let (this, slot) = (self.clone(), slot.clone());
        std::future::poll_fn(move |context| slot.poll_for(context, || this.released_by(&slot)))
    }

    /// The outcome of a release; `None` while it is open.
    fn released_by(&self, slot: &Slot) -> Option<Result<(), UnlockError>> {
        let state = slot.lock();
        let lost = |reason| Err(Lost { resource: slot.key.resource.clone(), reason }.into());
        let resource = || slot.key.resource.clone();
        Some(match state.release {
            Some(ReleaseOutcome::Released) => Ok(()),
            Some(ReleaseOutcome::Absent) => lost(LossReason::Gone),
            Some(ReleaseOutcome::Lost(reason)) => lost(reason),
            Some(ReleaseOutcome::Unconfirmed) => {
                let source = self.last_error(&state, "release");
                Err(UnlockError::Unconfirmed { resource: resource(), source })
            }
            Some(ReleaseOutcome::Closed) => Err(UnlockError::Closed { resource: resource() }),
            None if matches!(state.lease.phase(), Phase::Forgotten) => {
                Err(UnlockError::Closed { resource: resource() })
            }
            None => return None,
        })
    }

    /// Releases a lease that was never used as a lock, before another is claimed for the same user.
    pub(crate) fn give_back(self: &Arc<Self>, slot: &Arc<Slot>) {
        self.step(slot, Input::GiveUp, Sending::Here);
    }

    /// Releases a lease without a user. Has no effect if it is being released already.
    pub(crate) fn let_go(self: &Arc<Self>, slot: &Arc<Slot>) {
        self.leave(slot, Input::LetGo);
    }

    /// Releases a lease without a user, by `input`.
    pub(super) fn leave(self: &Arc<Self>, slot: &Arc<Slot>, input: Input) {
        if slot.is_forgotten() {
            return;
        }
        self.step(slot, input, Sending::Now);
        // tokio runs a woken task next on the thread of the task that woke it, where no other thread can take it. If
        // this task now blocks its thread, the request would wait. One more woken task moves the first to the queue
        // that the other threads take from.
        let runtime = &self.runtime;
        if !slot.is_forgotten() && tokio::task::try_id().is_some() {
            runtime.spawn(std::future::ready(()));
        }
    }
}
