//! The contract between locks and a store, for stores of one's own.
//!
//! `rlock-testkit` checks that a [`Backend`] keeps it. An implementation is written with `#[async_trait]` of the crate
//! `async-trait`; `examples/src/key_value_backend.rs` in the repository is a whole one, on a store that can compare and set
//! and nothing else.

pub use rlock_core::{
    Acquired, Backend, BackendError, Baseline, Capabilities, Claim, Event, EventStream, Events, Extended, Extension,
    Failure, Finding, Grant, IfBusy, LeaseId, LeaseKey, Place, Released, Verdict,
};

pub use crate::baseline::baseline;
pub use crate::connect::open;
