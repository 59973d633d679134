//! The conformance suite that every rlock backend passes, and the servers that it runs on.
//!
//! A backend of one's own is checked by a [`Harness`] and one macro call; each case is then a test of its own:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use rlock_core::{Backend, MemoryStore, Namespace};
//! use rlock_testkit::{Harness, async_trait};
//!
//! struct MyHarness {
//!     store: Arc<MemoryStore>,
//! }
//!
//! #[async_trait]
//! impl Harness for MyHarness {
//!     async fn start() -> Self {
//!         Self { store: MemoryStore::new() }
//!     }
//!
//!     async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
//!         Arc::new(self.store.client(namespace.clone()))
//!     }
//!
//!     async fn leftovers(&self, _namespace: &Namespace) -> Vec<String> {
//!         (0..self.store.resources()).map(|_| "a resource".into()).collect()
//!     }
//! }
//!
//! rlock_testkit::conformance!(mine: MyHarness, without(processes, network, control));
//! # fn main() {}
//! ```
//!
//! A case that fails names the rule of the contract that is broken, as [`Backend`](rlock_core::Backend) numbers them:
//! `[contract rule 4] mine, foreign_release_does_nothing: ...`.
//!
//! What the cases are made of serves other tests too: [`servers`], [`process`] for tests with processes that are
//! killed and frozen, [`history`] for judging what these noted, [`faults`], [`peer`] for talking to a backend with
//! every call bounded, [`wait`].

pub mod cases;
mod chance;
mod conformance;
pub mod contest;
pub mod faults;
mod harness;
pub mod history;
mod locking;
mod memory;
mod network;
mod observed;
pub mod peer;
pub mod process;
mod remote;
pub mod run;
pub mod servers;
mod stage;
pub mod wait;

pub use async_trait::async_trait;
pub use harness::{Controlled, Harness, Shared};

pub use memory::MemoryHarness;
pub use network::Network;
pub use observed::{Observed, Record};
pub use remote::{Remote, Remotes};
pub use stage::Stage;
