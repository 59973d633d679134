//! The configuration and the reports of watchdogs.

mod config;
mod failure;
mod manager;
mod status;

pub(crate) use self::config::Plan;
pub use self::config::{FailureCallback, SuccessCallback, WatchdogConfig};
pub use self::failure::{ExtensionFailure, WatchdogFailure};
pub use self::manager::WatchdogManager;
pub use self::status::WatchdogStatus;
