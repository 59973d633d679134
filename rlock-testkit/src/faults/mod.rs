//! Fault injection, for the cases of the suite and for other tests.
//!
//! - [`Faulty`] wraps a backend: requests and replies are delayed, get lost or arrive twice, or the store is frozen.
//!   Faults are requested call by call, or follow from a seed.
//! - [`Proxy`] stands between a client and its server: connections are cut, stall, become half-open, or are slow.
//! - [`Control`] pauses a server, kills it, or restarts it with or without its data.
//! - [`Process`](crate::process::Process) kills and freezes a process.
//!
//! # Testing code that holds locks
//!
//! A test of code that holds locks needs no server and no real time: a memory store and its client use tokio's clock,
//! which is paused.
//!
//! ```
//! use std::time::Duration;
//!
//! use rlock_core::{Client, Clock, LossReason, MemoryStore, Namespace, SimpleLock};
//! use rlock_testkit::faults::{Faults, Faulty};
//! use tokio::runtime::{Builder, Handle};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = Builder::new_current_thread().enable_all().start_paused(true).build()?;
//! runtime.block_on(async {
//!     let store = MemoryStore::with_clock(Clock::tokio());
//!     let faults = Faults::none();
//!     let backend = Faulty::new(store.client(Namespace::default()), faults.clone());
//!     let client = Client::builder().runtime(Handle::current()).clock(Clock::tokio()).build(backend);
//!     let lock = SimpleLock::new("job", &client)?;
//!
//!     // Take this lock away now.
//!     let work = lock.lock().await?.run(std::future::pending::<()>());
//!     let breaking = async {
//!         tokio::time::sleep(Duration::from_secs(1)).await;
//!         client.break_leases(lock.resource()).await
//!     };
//!     let (worked, broken) = tokio::join!(work, breaking);
//!     assert_eq!((worked.unwrap_err().reason, broken?), (LossReason::Broken, 1));
//!
//!     // Let the store be silent until the deadline, which takes no time here.
//!     let guard = lock.lock().await?;
//!     faults.freeze();
//!     assert_eq!(guard.lost().await, LossReason::Expired);
//!     faults.thaw();
//!     Ok(())
//! })
//! # }
//! ```

mod control;
mod faulty;
mod hosts;
mod proxy;

pub use control::{Control, Data};
pub use faulty::{Fault, Faults, Faulty, Odds, Verb};
pub use proxy::{Proxy, Way};
