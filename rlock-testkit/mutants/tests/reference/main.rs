//! The reference, as a server, passes the whole suite, and each of its mutants is caught.

mod child;
mod harness;
mod mutants;

use harness::Store;

rlock_testkit::conformance!(reference: Store);
