//! Faults, for the cases of the suite and for tests of one's own.
//!
//! - [`Faulty`] stands between a client and its backend: requests and replies are late, get lost, come twice, or the
//!   store stands still. What happens is said call by call, or follows from a seed.
//! - [`Proxy`] stands between a client and its server: connections are cut, stall, go half-open, are slow.
//! - [`Control`] is what happens to a server: it is paused, killed, restarted with its data or without.
//! - A process is killed and frozen by [`Process`](crate::process::Process).
//!
//! # Testing code that holds locks
//!
//! A test of such code needs no server and takes no time: a store in memory and its client count on tokio's clock, which is
//! paused.
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
mod proxy;

pub use control::{Control, Data};
pub use faulty::{Fault, Faults, Faulty, Odds, Verb};
pub use proxy::{Proxy, Way};
