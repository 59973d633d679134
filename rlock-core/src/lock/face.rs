//! The common part of all lock types: one claim of a share of a resource.

use std::fmt;
use std::future::Future;

use super::pending::{LockSpec, Pending};
use super::{Guard, LockOptions};
use crate::client::{Client, Watching};
use crate::contract::{BackendError, Holder, ResourceName, Share, Snapshot};
use crate::error::{InvalidConfig, LockError, RunError};
use crate::metrics::LockKind;

/// A resource as one client sees it.
#[derive(Clone)]
pub(crate) struct Face {
    client: Client,
    resource: ResourceName,
}

impl Face {
    pub(crate) fn new(name: impl AsRef<str>, client: &Client) -> Result<Self, InvalidConfig> {
        Ok(Self { client: client.clone(), resource: ResourceName::new(name)? })
    }

    pub(crate) fn resource(&self) -> &ResourceName {
        &self.resource
    }

    pub(crate) async fn snapshot(&self) -> Result<Snapshot, BackendError> {
        self.client.inspect(&self.resource).await
    }

    pub(crate) async fn holders(&self) -> Result<Vec<Holder>, BackendError> {
        Ok(self.snapshot().await?.holders)
    }

    pub(crate) fn watch(&self) -> Watching<Result<Snapshot, BackendError>> {
        Watching::start(&self.client, self.resource.clone())
    }

    pub(crate) async fn lock(&self, share: Share, kind: LockKind, options: LockOptions) -> Result<Guard, LockError> {
        Pending::new(&self.client, self.spec(share, kind, options))?.granted().await
    }

    pub(crate) async fn try_lock(
        &self,
        share: Share,
        kind: LockKind,
        options: LockOptions,
    ) -> Result<Option<Guard>, LockError> {
        let spec = self.spec(share, kind, options).one_try()?;
        match Pending::new(&self.client, spec)?.granted().await {
            Err(LockError::TimedOut { .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }

    pub(crate) async fn try_run<T>(
        &self,
        share: Share,
        kind: LockKind,
        options: LockOptions,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, RunError> {
        match self.try_lock(share, kind, options).await? {
            Some(guard) => Ok(Some(guard.run(work).await?)),
            None => Ok(None),
        }
    }

    fn spec(&self, share: Share, kind: LockKind, options: LockOptions) -> LockSpec {
        LockSpec { resource: self.resource.clone(), share, kind, options }
    }
}

/// The name alone: a lock type is printed as `SimpleLock("job")`.
impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.resource, f)
    }
}
