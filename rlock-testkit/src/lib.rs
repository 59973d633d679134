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
//! # A store behind a server
//!
//! That harness leaves out the cases about other processes, a network with faults, and a server that is killed. A store
//! behind a server passes them too. Its harness then has an [address](Shared::address), from which the cases make that of
//! a proxy and tell it to processes, and hands out its [server](Controlled::server), which is [`Control`]: one of
//! [`servers`], or whatever can pause, kill and restart a server of one's own.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use rlock_core::{Backend, Namespace};
//! # use rlock_testkit::{Controlled, Harness, Shared, async_trait};
//! use rlock_testkit::faults::Control;
//! use rlock_testkit::servers::Redis;
//!
//! struct MyHarness {
//!     url: String,
//!     server: Option<Redis>, // of the process that started it
//! }
//!
//! # #[async_trait]
//! # impl Harness for MyHarness {
//! #     async fn start() -> Self { Self::start_durable().await }
//! #     async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
//! #         Arc::new(rlock_core::MemoryStore::new().client(namespace.clone()))
//! #     }
//! #     async fn leftovers(&self, _namespace: &Namespace) -> Vec<String> { Vec::new() }
//! # }
//! #[async_trait]
//! impl Shared for MyHarness {
//!     fn address(&self) -> String {
//!         self.url.clone()
//!     }
//!
//!     async fn attach(address: &str) -> Self {
//!         Self { url: address.to_owned(), server: None }
//!     }
//! }
//!
//! #[async_trait]
//! impl Controlled for MyHarness {
//!     async fn start_durable() -> Self {
//!         let server = Redis::start_durable();
//!         Self { url: server.url().to_owned(), server: Some(server) }
//!     }
//!
//!     fn server(&self) -> &dyn Control {
//!         self.server.as_ref().expect("only the test that started the server tampers with it")
//!     }
//! }
//!
//! rlock_testkit::conformance!(mine: MyHarness);
//! # fn main() {}
//! ```
//!
//! # What a failure says
//!
//! A case that fails names the rule of the contract that is broken, as [`Backend`](rlock_core::Backend) numbers them:
//! `[contract rule 4] mine, foreign_release_does_nothing: ...`.
//!
//! Cases that leave something to chance print the seed that they began with; `RLOCK_TEST_SEED` repeats it.
//!
//! # For tests of one's own
//!
//! What the cases are made of serves other tests too: [`servers`], [`faults`], [`process`] for processes that are killed
//! and frozen, [`contest`] for having many of them want the same locks, [`history`] for judging what they noted, [`peer`]
//! for talking to a backend with every call bounded, [`wait`], and [`mod@bench`] for the speed of a store. The program
//! `soak` has processes contend for as long as one likes while everything goes wrong:
//!
//! ```text
//! cargo run -p rlock-soak -- --url redis: --processes 8 --minutes 5 --faults all
//! ```
//!
//! [`Control`]: faults::Control

pub mod bench;
pub mod cases;
pub mod certificates;
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
pub use conformance::cases_for;
pub use harness::{Controlled, Harness, Shared};

pub use memory::MemoryHarness;
pub use network::Network;
pub use observed::{Observed, Record};
pub use remote::{Remote, Remotes};
pub use stage::Stage;
