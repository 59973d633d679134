//! What can go wrong between a backend and its store.

use std::error::Error;
use std::sync::Arc;

use super::ResourceName;

/// Why a store did not answer a request, and what that says about the request.
///
/// Only [`Unknown`](Self::Unknown) leaves open whether the request was applied. None of these is the loss of a
/// lease: that is only the store's own word that the lease is gone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The request has had no effect, and may succeed when it is sent again.
    #[error("{0}; the request was not applied and may be sent again")]
    NotApplied(Failure),
    /// The request may or may not have had its effect; sending it again is safe and tells.
    #[error("{0}; the request may have been applied")]
    Unknown(Failure),
    /// The store refuses the request, and will refuse it again until somebody changes something.
    #[error("{0}")]
    Rejected(Failure),
    /// The resource has live leases that were claimed with another capacity: one name is used as two kinds of
    /// lock.
    #[error(
        "resource {resource:?} is in use with a capacity of {actual}, not {asked}: \
         one name is used as two kinds of lock; give one of them another name"
    )]
    CapacityMismatch {
        /// The resource.
        resource: ResourceName,
        /// The capacity of the refused claim.
        asked: u32,
        /// The capacity of the leases that are there.
        actual: u32,
    },
}

impl BackendError {
    /// Whether the request may have had its effect.
    pub fn may_have_been_applied(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// Whether sending the request again can succeed without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::NotApplied(_) | Self::Unknown(_))
    }
}

/// What was tried, on what, and how it failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation} on {store} failed: {reason}")]
pub struct Failure {
    /// What was tried: `acquire`, `extend`, `connect`.
    pub operation: &'static str,
    /// On what, without secrets: `redis://10.0.0.7:6379/0`.
    pub store: Arc<str>,
    /// How it failed, and where it is known, what to do about it.
    pub reason: String,
    /// The client library's own error.
    #[source]
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure without an error underneath.
    pub fn new(operation: &'static str, store: impl Into<Arc<str>>, reason: impl Into<String>) -> Self {
        Self { operation, store: store.into(), reason: reason.into(), source: None }
    }

    /// The same, caused by `source`.
    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
}
