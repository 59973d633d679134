//! rlock in a file, for the processes of one host: no server is needed.
//!
//! Most users depend on the package `rlock-client` and call `rlock::connect("sqlite:path/to/file")`, which uses this crate.
//!
//! ```
//! use rlock_core::{Client, SimpleLock};
//! use rlock_sqlite::{SqliteBackend, SqliteConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("locks.db");
//! let client = Client::builder().connect(SqliteBackend::connect(SqliteConfig::at(path)?)).await?;
//! let guard = SimpleLock::new("invoice/42", &client)?.lock().await?;
//! guard.unlock().await?;
//! # Ok(()) }
//! ```
//!
//! # How it works
//!
//! The file is a database of SQLite, which is built in, with its log beside it (WAL). Each client has one task and one
//! connection. What comes while it works is done in one transaction afterwards, which drops whatever has expired, does what
//! was asked for, and grants from the heads of the queues. Writers take turns by locks on
//! two files beside it, in the order in which the kernel queues them. What takes longer, such as a batch of thousands, is
//! done in parts, between which others write.
//!
//! A lease expires by the time since the host was started (`CLOCK_BOOTTIME`), so that nobody frees a lock or keeps it by
//! setting a clock. The first one who connects after another start deletes all leases. Where the system does not say which
//! start it is, the wall clock decides.
//!
//! A waiter of another process is told by a row in a table, and by a write to one of these files, of which Linux tells all who
//! watch it (inotify): those who wait. They look every 100 ms all the same, as do those who hold, for somebody may break the
//! lock; where the system does not tell, whoever waits looks every 10 ms. A look is one read of shared memory, unless
//! others have written.
//!
//! # What it guarantees
//!
//! All that [`rlock_core::Backend`] asks for, among the processes of one host that open the same file. Fencing tokens are
//! max(previous + 1, the host's time in microseconds), so that they keep increasing in a file that is made anew.
//!
//! # What it cannot promise
//!
//! - **One host.** On a network file system the processes of several hosts would not see each other; it is refused.
//! - **A stopped writer.** A process that is stopped in the middle of a write, which takes a fraction of a millisecond,
//!   holds up all others until it goes on or dies.
//! - **A deleted file.** Whoever holds a lock in it is told within 100 ms, and in a new one nothing is claimed for a second.
//!   A process that is stopped meanwhile does not learn of it, nor does anybody if the file `…-turn` beside it is deleted
//!   too; only the fencing token protects what they write to.
//! - **A part of the file.** The files `…-wal` and `…-shm` beside it belong to it. Whoever deletes one of them alone takes
//!   locks away without anybody being told.
//! - **Power.** What was written last may be lost with the power, together with everybody who held something.

mod backend;
mod baseline;
mod bell;
mod config;
mod error;
mod examine;
mod file;
mod host;
mod keeper;
mod place;
mod table;
mod turns;

pub use backend::SqliteBackend;
pub use baseline::SqliteBaseline;
pub use config::{ConfigError, SqliteConfig};
pub use rlock_core::ConnectError;
