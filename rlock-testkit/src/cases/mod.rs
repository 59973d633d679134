//! The conformance cases, by subject. `conformance!` makes a test of each.

#[doc(hidden)]
#[allow(missing_docs, reason = "the cases have docs")]
pub mod boxed;
pub mod cancelling;
pub mod compare;
pub mod cost;
pub mod elections;
pub mod errors;
pub mod exclusion;
pub mod expiry;
pub mod extend;
pub mod grant;
pub mod histories;
pub mod idempotence;
mod list;
pub mod looking;
pub mod loss;
pub mod names;
pub mod order;
pub mod outages;
pub mod reference;
pub mod rest;
pub mod sets;
pub mod tokens;
