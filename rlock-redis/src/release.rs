//! Ends leases: by their holders, or by force.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rlock_core::{BackendError, Release, Released, ResourceName};

use crate::RedisBackend;
use crate::answers;
use crate::batch::Verb;
use crate::route::Purpose;
use crate::scripts::{self, Script};
use crate::wire::{Args, Reply};

impl RedisBackend {
    pub(crate) async fn release_all(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        self.release_by(Purpose::Other, [&scripts::RELEASE, &scripts::RELEASE_ALONE], releases).await
    }

    /// Releases leases that core may claim again by the same ids.
    pub(crate) fn give_back<'a>(
        &'a self,
        releases: &'a [Release],
    ) -> BoxFuture<'a, Vec<Result<Released, BackendError>>> {
        let scripts = [&scripts::GIVE_BACK, &scripts::GIVE_BACK_ALONE];
        self.release_by(Purpose::GiveBack, scripts, releases).boxed() // a claim's future contains this one
    }

    async fn release_by(
        &self,
        purpose: Purpose,
        [script, without_sets]: [&'static Script; 2],
        releases: &[Release],
    ) -> Vec<Result<Released, BackendError>> {
        let arguments = |args: &mut Args, part: &[&Release]| {
            let packed = part.iter().flat_map(|release| scripts::packed_release(release.key.id, release.rest));
            args.bytes(packed.collect());
        };
        let verb = Verb {
            operation: "release",
            purpose,
            script,
            without_sets,
            set_use: Some(&self.set_use.release),
            key: |release: &Release| &release.key,
            arguments: &arguments,
            split: answers::letters,
            // No deadline depends on the answer. A primary that hangs delays the answers about its whole batch.
            patience: Duration::MAX,
        };
        let released = self.batch(&verb, releases, |answer, _| answers::released(answer).map(Ok)).await;
        if let Some(confirmer) = &self.confirmer {
            let done = released.iter().zip(releases).filter(|(released, _)| released.is_ok());
            done.for_each(|(_, release)| confirmer.forget(release.key.id));
        }
        released
    }

    pub(crate) async fn break_all(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        let reply = self.call_on("break", Purpose::Break, &scripts::BREAK, resource).await?;
        match reply {
            Reply::Number(count) => Ok(u64::try_from(count).unwrap_or_default()),
            other => Err(self.failed(answers::foreign(&other), "break")),
        }
    }
}
