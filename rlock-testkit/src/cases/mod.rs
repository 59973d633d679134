//! The conformance cases, by subject. `conformance!` makes a test of each.

pub mod cancelling;
pub mod compare;
pub mod cost;
pub mod errors;
pub mod exclusion;
pub mod expiry;
pub mod extend;
pub mod grant;
pub mod histories;
pub mod idempotence;
pub mod looking;
pub mod loss;
pub mod names;
pub mod order;
pub mod reference;
pub mod rest;
pub mod tokens;

/// Every case as a function that returns a boxed future, for [`conformance!`](crate::conformance).
#[doc(hidden)]
#[allow(missing_docs, reason = "the cases have docs")]
pub mod boxed {
    use futures_util::future::LocalBoxFuture;

    use crate::faults::Control;
    use crate::{Network, Remotes, Stage};

    crate::__cases!(__boxed [] []);
}
