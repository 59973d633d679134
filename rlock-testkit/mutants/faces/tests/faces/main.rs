//! The copy passes the tests of core's faces, and each of its mutants is caught.

#![allow(clippy::duplicate_mod, reason = "each file of core's tests declares the module `support`")]

extern crate rlock_face_mutants as rlock_core;

#[path = "../../../tests/reference/child.rs"]
mod child;
mod mutants;

#[path = "../../../../../rlock-core/tests/blocking.rs"]
mod blocking;
#[path = "../../../../../rlock-core/tests/blocking_guards.rs"]
mod blocking_guards;
#[path = "../../../../../rlock-core/tests/defaults.rs"]
mod defaults;
#[path = "../../../../../rlock-core/tests/draining.rs"]
mod draining;
#[path = "../../../../../rlock-core/tests/dropped.rs"]
mod dropped;
#[path = "../../../../../rlock-core/tests/election.rs"]
mod election;
#[path = "../../../../../rlock-core/tests/handle.rs"]
mod handle;
#[path = "../../../../../rlock-core/tests/lock_set.rs"]
mod lock_set;
#[path = "../../../../../rlock-core/tests/lock_set_losses.rs"]
mod lock_set_losses;
#[path = "../../../../../rlock-core/tests/options.rs"]
mod options;
#[path = "../../../../../rlock-core/tests/releasing.rs"]
mod releasing;
#[path = "../../../../../rlock-core/tests/runtimes.rs"]
mod runtimes;
#[path = "../../../../../rlock-core/tests/set_requests.rs"]
mod set_requests;
#[path = "../../../../../rlock-core/tests/try_run.rs"]
mod try_run;
#[path = "../../../../../rlock-core/tests/watching.rs"]
mod watching;
