//! Proof that the conformance suite can fail.
//!
//! The build script makes a copy of the reference backend with a choice at each place that a mutant of `mutants.txt`
//! changes. The environment variable [`SWITCH`] selects the mutant of a process. [`Server`] runs that store in a
//! separate process, and [`Served`] is its client, so that the cases with networks, processes and restarts run on the
//! reference as well. The tests run the whole suite on the original, and each mutant against the cases that have to
//! catch it. They do the same with the state machine of a lease and the explorations of its model.

mod client;
pub mod machine;
mod memory;
mod server;
mod switch;
mod wire;

use std::sync::OnceLock;

pub use client::Served;
pub use server::Server;
pub use switch::{Mutant, SWITCH};

/// The mutants of the reference.
pub const MUTANTS: &[Mutant] = include!(concat!(env!("OUT_DIR"), "/list.rs"));

/// The mutants of the lease's state machine. Their cases are explorations of its model.
pub const MACHINE_MUTANTS: &[Mutant] = include!(concat!(env!("OUT_DIR"), "/machine_list.rs"));

/// The mutant that is switched on in this process; empty for the original.
fn mutant() -> &'static str {
    static SWITCHED_ON: OnceLock<&str> = OnceLock::new();
    SWITCHED_ON.get_or_init(|| switch::switched_on(MUTANTS.iter().chain(MACHINE_MUTANTS)))
}

fn is_on(name: &str) -> bool {
    mutant() == name
}
