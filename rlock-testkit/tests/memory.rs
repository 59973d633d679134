//! The reference backend passes the suite.

use rlock_testkit::MemoryHarness;

rlock_testkit::conformance!(memory: MemoryHarness, without(processes, network, control));
