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
    /// How many scheduled extensions have failed in a row, this one included.
    pub failures: u32,
    /// The number at which the watchdog gives up; `u32::MAX` if it goes on until the deadline.
    pub max_failures: u32,
    /// What went wrong last.
    #[source]
    pub cause: ExtensionFailure,
}

fn allowed(max_failures: u32) -> String {
    if max_failures == u32::MAX { String::new() } else { format!(" of at most {max_failures}") }
}

/// What became of an extension that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionFailure {
    /// The store failed to answer, or refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// No answer has come yet.
    #[error("the store has not answered for {0:?}")]
    NoAnswer(Duration),
    /// The lock was lost.
    #[error("the lock was lost: {0}")]
    Lost(LossReason),
}

impl ExtensionFailure {
    /// Whether it may pass by itself: the store could not be reached or did not answer.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Backend(error) => error.is_transient(),
            Self::NoAnswer(_) => true,
            Self::Lost(_) => false,
        }
    }
}
