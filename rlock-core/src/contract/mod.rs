//! The contract between locks and a store.

mod backend;
mod backend_error;
mod baseline;
mod connect;
mod data;
mod events;
mod finding;
mod handle;
mod name;
mod owner;
mod request;
mod server_clock;
mod share;
mod snapshot;
mod tls_files;
mod token;
mod ttl;
mod url_option;

pub use self::backend::{Backend, Capabilities, Event, EventStream};
pub use self::backend_error::{BackendError, Cause, Failure};
pub use self::baseline::Baseline;
pub use self::connect::{Backoff, ConnectError};
pub use self::data::{InvalidData, LeaseData};
pub use self::events::Events;
pub use self::finding::{Finding, Verdict};
pub use self::handle::{InvalidHandle, LockHandle};
pub use self::name::{InvalidName, Namespace, ResourceName};
pub use self::owner::Owner;
pub use self::request::{
    Acquired, Claim, Extended, Extension, Grant, IfBusy, LeaseId, LeaseKey, Place, Release, Released,
};
pub use self::server_clock::ServerClock;
pub use self::share::{InvalidShare, Share};
pub use self::snapshot::{Cursor, Entry, Holder, ListFilter, Page, Snapshot, Waiter};
pub use self::tls_files::TlsFiles;
pub use self::token::Token;
pub use self::ttl::{InvalidTtl, Ttl};
pub use self::url_option::InvalidOption;
