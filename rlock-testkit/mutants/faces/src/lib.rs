//! Proof that the tests of core's faces can fail: sets of locks, elections, watchers, handles, and blocking code.
//!
//! This crate is a copy of core with a choice at each place that a mutant of `faces.txt` changes. The environment
//! variable [`SWITCH`] selects the mutant of a process. The tests run core's own tests on the original, and each mutant
//! against the tests that have to catch it.

// The source of another crate, which is linted there, with choices that the build script inserts.
#![allow(warnings, missing_docs, clippy::all)]

#[path = "../../src/switch.rs"]
mod switch;

pub use switch::{Mutant, SWITCH};

/// The mutants of the faces. Their cases are tests of core.
pub const MUTANTS: &[Mutant] = include!(concat!(env!("OUT_DIR"), "/list.rs"));

/// The mutant that is switched on in this process; empty for the original.
fn mutant() -> &'static str {
    static SWITCHED_ON: std::sync::OnceLock<&str> = std::sync::OnceLock::new();
    SWITCHED_ON.get_or_init(|| switch::switched_on(MUTANTS))
}

include!(concat!(env!("OUT_DIR"), "/core.rs"));
