//! Releases, for guards.

use std::sync::Arc;
use std::task::Poll;

use super::step::Sending;
use super::{Driver, Slot};
use crate::contract::ResourceName;
use crate::error::UnlockError;
use crate::lease::{Input, LossReason, Lost, Phase, ReleaseOutcome};

impl Driver {
    /// Releases a held lock. The release goes its way whether or not the outcome is waited for.
    pub(crate) fn unlock(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
    ) -> impl Future<Output = Result<(), UnlockError>> + use<> {
        self.step(slot, Input::LetGo, Sending::Here);
        let (this, slot) = (self.clone(), slot.clone());
        std::future::poll_fn(move |context| {
            slot.user.register(context.waker());
            let state = slot.lock();
            let resource = slot.key.resource.clone();
            match state.release {
                Some(ReleaseOutcome::Unconfirmed) => {
                    let source = this.last_error(&state, "release");
                    Poll::Ready(Err(UnlockError::Unconfirmed { resource, source }))
                }
                Some(outcome) => Poll::Ready(report(outcome, resource)),
                None if matches!(state.lease.phase(), Phase::Settled) => {
                    Poll::Ready(Err(UnlockError::Closed { resource }))
                }
                None => Poll::Pending,
            }
        })
    }

    /// Releases a lease that was nobody's lock, before another is claimed for the same user.
    pub(crate) fn give_back(self: &Arc<Self>, slot: &Arc<Slot>) {
        self.step(slot, Input::LetGo, Sending::Here);
    }

    /// Releases a lease without a user. Has no effect on one that is being released already.
    pub(crate) fn let_go(self: &Arc<Self>, slot: &Arc<Slot>) {
        self.step(slot, Input::LetGo, Sending::Now);
        // A task that wakes another gets it next in line on its own thread, where no other thread can take it. If this task
        // now blocks its thread, the request would wait. One more task moves it to the queue that the others take from.
        let runtime = &self.runtime;
        if !slot.is_settled() && tokio::task::try_id().is_some() {
            runtime.spawn(std::future::ready(()));
        }
    }
}

fn report(outcome: ReleaseOutcome, resource: ResourceName) -> Result<(), UnlockError> {
    match outcome {
        ReleaseOutcome::Released => Ok(()),
        ReleaseOutcome::Absent => Err(Lost { resource, reason: LossReason::Gone }.into()),
        ReleaseOutcome::Lost(reason) => Err(Lost { resource, reason }.into()),
        ReleaseOutcome::Unconfirmed | ReleaseOutcome::Closed => Err(UnlockError::Closed { resource }),
    }
}
