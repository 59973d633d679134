//! Errors between a backend and its store.

use std::error::Error;
use std::sync::Arc;

use super::ResourceName;

/// The reason why a store did not answer a request, and whether the request was applied.
///
/// Only [`Unknown`](Self::Unknown) leaves open whether the request was applied. None of these errors means that a lease
/// is lost: a lease is gone only if the store itself says so.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The request had no effect. A retry may succeed.
    #[error("{0}; the request was not applied and may be sent again")]
    NotApplied(Failure),
    /// The request may or may not have had its effect. A retry is safe, and its answer shows which.
    #[error("{0}; the request may have been applied")]
    Unknown(Failure),
    /// The store refuses the request, and will refuse it again until a setting, a right or the request changes.
    #[error("{0}")]
    Rejected(Failure),
    /// The resource has live leases that were claimed with another capacity: one name is used as two kinds of lock.
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

    /// Whether a retry can succeed without any other change.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::NotApplied(_) | Self::Unknown(_))
    }
}

/// A failed operation, its store, and the reason.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation} on {store} failed: {reason}")]
pub struct Failure {
    /// The operation: `acquire`, `extend`, `connect`.
    pub operation: &'static str,
    /// The store, without secrets: `redis://10.0.0.7:6379/0`.
    pub store: Arc<str>,
    /// The reason, and the remedy if one is known.
    pub reason: String,
    /// The error of the client library.
    #[source]
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure without an underlying error.
    pub fn new(operation: &'static str, store: impl Into<Arc<str>>, reason: impl Into<String>) -> Self {
        Self { operation, store: store.into(), reason: reason.into(), source: None }
    }

    /// The same failure, caused by `source`.
    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
}

/// The reason of a failure, without its operation and store: code below the backend knows neither.
#[derive(Debug, Clone)]
pub struct Cause {
    /// The reason, and the remedy if one is known.
    pub reason: String,
    /// The error of the client library.
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Cause {
    /// A reason without an underlying error.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), source: None }
    }

    /// The same reason, caused by `source`.
    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The failure of `operation` on `store`.
    pub fn into_failure(self, operation: &'static str, store: &Arc<str>) -> Failure {
        Failure { operation, store: store.clone(), reason: self.reason, source: self.source }
    }
}
