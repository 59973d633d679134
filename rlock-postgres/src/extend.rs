//! Extends leases.

use rlock_core::{BackendError, Extended, Extension};

use crate::PostgresBackend;
use crate::answers::Answer;
use crate::error::CallError;
use crate::mail::Standing;
use crate::operation::Operation;

impl PostgresBackend {
    pub(crate) async fn extend_all(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let operations: Vec<_> = extensions.iter().map(Operation::extending).collect();
        let answers = self.change(&operations).await.into_iter().zip(extensions);
        answers.map(|(answer, extension)| self.extended(answer, extension)).collect()
    }

    fn extended(&self, answer: Result<Answer, CallError>, extension: &Extension) -> Result<Extended, BackendError> {
        let read = |answer: Answer| answer.extended().ok_or_else(CallError::foreign);
        let extended = answer.and_then(read).map_err(|error| self.failed(error, "extend"))?;
        let standing = match extended {
            Extended::Held(_) => Standing::Held(extension.ttl),
            Extended::Queued(_) => Standing::Queued(extension.ttl),
            Extended::Gone { .. } => Standing::Over,
        };
        self.inbox.note(extension.key.id, standing);
        Ok(extended)
    }
}
