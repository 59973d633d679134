//! The conformance suite that every rlock backend passes, and the servers that it runs on.
//!
//! To check another backend, write a [`Harness`] and call one macro. Each case becomes a test:
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
//! That harness leaves out the cases that need other processes, a network with faults, or a server that is killed. A
//! store behind a server passes them too. Its harness then has an [address](Shared::address): the cases put a proxy in
//! front of it, and pass it to other processes. The harness also provides the [server](Controlled::server) as a
//! [`Control`]: one of [`servers`], or another type that can pause, kill and restart a server.
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
//!     server: Option<Redis>, // only in the process that started it
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
//! # Failure messages
//!
//! A case that fails names the broken rule of the contract, with the number that it has on
//! [`Backend`](rlock_core::Backend): `[contract rule 4] mine, foreign_release_does_nothing: ...`.
//!
//! Cases with random choices print their seed. `RLOCK_TEST_SEED` repeats it.
//!
//! # Parts for other tests
//!
//! Other tests can use the parts of the suite too: [`servers`], [`faults`], [`process`] for processes that are killed
//! and frozen, [`contest`] for processes that contend for locks, [`history`] to record and check what they did,
//! [`peer`] for calls to a backend with a time limit, [`wait`], and [`mod@bench`] for the speed of a store. The program
//! `soak` lets processes contend for any length of time while faults happen:
//!
//! ```text
//! cargo run -p rlock-soak -- --url redis: --processes 8 --minutes 5 --faults all
//! ```
//!
//! # Panics and cancel safety
//!
//! All parts are for tests: they panic where a test has failed, such as when a store does not answer in time. A test that
//! drops one of their futures does not learn whether the request was carried out. A lease of a [`Peer`](peer::Peer)
//! then lives until its TTL ends. Dropping a [`Process`](process::Process) or a server ends it.
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
