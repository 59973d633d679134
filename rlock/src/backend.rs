//! The contract between locks and a store, for stores of one's own.
//!
//! `rlock-testkit` checks that a [`Backend`] keeps it. An implementation is written with `#[async_trait]` of the crate
//! `async-trait`; `examples/src/key_value_backend.rs` in the repository is a whole one, on a store that can compare and set
//! and nothing else. [`Backoff`], [`ConnectError`] and [`InvalidOption`] are what the stores of rlock have in common, and are
//! meant for others too.

pub use rlock_core::{
    Acquired, Backend, BackendError, Backoff, Baseline, Capabilities, Claim, ConnectError, Event, EventStream, Events,
    Extended, Extension, Failure, Finding, Grant, IfBusy, InvalidOption, LeaseId, LeaseKey, Place, Release, Released,
    Verdict,
};

pub use crate::baseline::baseline;
pub use crate::connect::open;
