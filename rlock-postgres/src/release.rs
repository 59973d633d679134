//! Releases and breaks leases.

use rlock_core::{BackendError, Release, Released, ResourceName};

use crate::PostgresBackend;
use crate::answers::Answer;
use crate::error::CallError;
use crate::mail::Standing;
use crate::operation::Operation;

impl PostgresBackend {
    pub(crate) async fn release_all(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        releases.iter().for_each(|release| self.inbox.note(release.key.id, Standing::Over));
        let operations: Vec<_> = releases.iter().map(Operation::releasing).collect();
        let read = |answer: Answer| answer.released().ok_or_else(CallError::foreign);
        let answers = self.change(&operations).await.into_iter();
        answers.map(|answer| answer.and_then(read).map_err(|error| self.failed(error, "release"))).collect()
    }

    pub(crate) async fn break_all(&self, resource: &ResourceName) -> Result<u64, CallError> {
        let answer = self.change(&[Operation::breaking(resource)]).await.remove(0)?;
        answer.broken().ok_or_else(CallError::foreign)
    }

    /// Drops expired leases, and grants the waiters that then fit.
    pub(crate) async fn settle(&self, resources: &[&ResourceName]) -> Result<(), CallError> {
        let operations: Vec<_> = resources.iter().copied().map(Operation::settling).collect();
        self.change(&operations).await.into_iter().try_for_each(|answer| answer.map(drop))
    }
}
