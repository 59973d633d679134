//! The contract between locks and a store, for stores of one's own.
//!
//! `rlock-testkit` checks that a [`Backend`] keeps it.

pub use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, Event, EventStream, Extended, Extension, Failure, Grant,
    IfBusy, LeaseId, LeaseKey, Place, Released,
};
