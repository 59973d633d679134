//! Faults, for the cases of the suite and for tests of one's own.
//!
//! - [`Faulty`] stands between a client and its backend: requests and replies are late, get lost, come twice, or the
//!   store stands still. What happens is said call by call, or follows from a seed.
//! - [`Proxy`] stands between a client and its server: connections are cut, stall, go half-open, are slow.
//! - [`Control`] is what happens to a server: it is paused, killed, restarted with its data or without.
//! - A process is killed and frozen by [`Process`](crate::process::Process).

mod control;
mod faulty;
mod proxy;

pub use control::{Control, Data};
pub use faulty::{Fault, Faults, Faulty, Odds, Verb};
pub use proxy::{Proxy, Way};
