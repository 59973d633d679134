//! Shows the leases of a resource.

use rlock_core::{ResourceName, Snapshot};

use crate::PostgresBackend;
use crate::answers;
use crate::error::CallError;
use crate::statement::Value;

impl PostgresBackend {
    pub(crate) async fn look(&self, resource: &ResourceName) -> Result<Snapshot, CallError> {
        let (snapshot, is_stale) = self.look_once(resource).await?;
        if !is_stale {
            return Ok(snapshot);
        }
        self.settle(&[resource]).await?;
        Ok(self.look_once(resource).await?.0)
    }

    async fn look_once(&self, resource: &ResourceName) -> Result<(Snapshot, bool), CallError> {
        let values = vec![self.namespace(), Value::text(resource.as_str())];
        let rows = self.link.read(&self.statements.inspect, values).await?;
        answers::snapshot(&rows, resource).map_err(CallError::unreadable)
    }
}
