//! Inspects one resource.

use rlock_core::{BackendError, ResourceName, Snapshot};

use crate::RedisBackend;
use crate::answers;
use crate::batch::Sent;
use crate::keys::Keys;
use crate::route::Purpose;
use crate::scripts::{self, Script};
use crate::wire::{Args, Reply};

impl RedisBackend {
    pub(crate) async fn snapshot(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        let reply = self.call_on("inspect", Purpose::Other, &scripts::INSPECT, resource).await?;
        answers::snapshot(&reply, resource).map_err(|error| self.failed(error, "inspect"))
    }

    /// Makes one script call on one resource.
    pub(crate) async fn call_on(
        &self,
        operation: &'static str,
        purpose: Purpose,
        script: &Script,
        resource: &ResourceName,
    ) -> Result<Reply, BackendError> {
        let build = |args: &mut Args| self.add_keys(args, Sent::WithSets, std::iter::once(resource));
        let run = self.route.run(Keys::bucket(resource), purpose, script, build).await;
        run.map(|answered| answered.reply).map_err(|error| self.call_failed(error, operation))
    }
}
