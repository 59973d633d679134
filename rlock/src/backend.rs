//! The contract between locks and a store, for custom stores.
//!
//! `rlock-testkit` checks that a [`Backend`] keeps the contract. Implement the trait with `#[async_trait]` of the crate
//! `async-trait`. A complete example is `examples/src/key_value_backend.rs` in the repository, on a store that can only
//! compare and set. [`Backoff`], [`Cause`], [`ConnectError`], [`InvalidOption`], [`ServerClock`] and [`TlsFiles`] are
//! shared by the stores of rlock, and are meant for other stores too.

pub use rlock_core::{
    Acquired, Backend, BackendError, Backoff, Baseline, Capabilities, Cause, Claim, ConnectError, Event, EventStream,
    Events, Extended, Extension, Failure, Finding, Grant, IfBusy, InvalidOption, LeaseId, LeaseKey, Place, Release,
    Released, ServerClock, TlsFiles, Verdict,
};

pub use crate::baseline::baseline;
pub use crate::connect::open;
