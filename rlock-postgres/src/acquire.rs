//! Claims leases.

use std::time::Duration;

use rlock_core::{Acquired, BackendError, Claim};
use tokio::time::sleep;

use crate::PostgresBackend;
use crate::answers::{Answer, Claimed};
use crate::error::CallError;
use crate::mail::Standing;
use crate::operation::Operation;

/// The longest pause before an answer to claims during the restart grace, so that core does not retry them in a tight
/// loop.
const MOMENT: Duration = Duration::from_millis(200);

impl PostgresBackend {
    pub(crate) async fn acquire_all(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        let operations: Vec<_> = claims.iter().map(Operation::claiming).collect();
        let answers = self.change(&operations).await;
        if let Some(early) = answers.iter().flatten().filter_map(|answer| answer.is_early_by()).max() {
            sleep(early.min(MOMENT)).await;
        }
        answers.into_iter().zip(claims).map(|(answer, claim)| self.acquired(answer, claim)).collect()
    }

    fn acquired(&self, answer: Result<Answer, CallError>, claim: &Claim) -> Result<Acquired, BackendError> {
        let failed = |error| self.failed(error, "acquire");
        let answer = answer.map_err(failed)?;
        if let Some(left) = answer.is_early_by() {
            return Err(failed(CallError::early(left)));
        }
        let acquired = match answer.acquired().ok_or_else(CallError::foreign).map_err(failed)? {
            Claimed::Acquired(acquired) => acquired,
            Claimed::OtherCapacity(actual) => {
                let (resource, asked) = (claim.key.resource.clone(), claim.share.capacity());
                return Err(BackendError::CapacityMismatch { resource, asked, actual });
            }
        };
        match acquired {
            Acquired::Held(_) => self.inbox.note(claim.key.id, Standing::Held(claim.ttl)),
            Acquired::Queued(_) => self.inbox.note(claim.key.id, Standing::Queued(claim.ttl)),
            Acquired::Busy => {}
        }
        Ok(acquired)
    }
}
