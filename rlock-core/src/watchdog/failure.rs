//! The failures of a watchdog.

use std::time::Duration;

use crate::contract::{BackendError, ResourceName};
use crate::lease::LossReason;

/// A scheduled extension that failed with all its retries.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the watchdog of {resource:?} failed {failures}{} times in a row: {cause}", allowed(*max_failures))]
pub struct WatchdogFailure {
    /// The resource.
    pub resource: ResourceName,
    /// The number of scheduled extensions that have failed in a row, this one included.
    pub failures: u32,
    /// The number of failures at which the watchdog gives up; `u32::MAX` if it continues until the deadline.
    pub max_failures: u32,
    /// The last failure.
    #[source]
    pub cause: ExtensionFailure,
}

fn allowed(max_failures: u32) -> String {
    if max_failures == u32::MAX { String::new() } else { format!(" of at most {max_failures}") }
}

/// The failure of an extension.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionFailure {
    /// The store failed to answer, or refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The store has not answered yet.
    #[error("the store has not answered for {0:?}")]
    NoAnswer(Duration),
    /// The lock was lost.
    #[error("the lock was lost: {0}")]
    Lost(LossReason),
}

impl ExtensionFailure {
    /// Whether the failure is temporary: the store could not be reached or did not answer.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Backend(error) => error.is_transient(),
            Self::NoAnswer(_) => true,
            Self::Lost(_) => false,
        }
    }
}
