//! rlock in a file, for the processes of one host: no server is needed.
//!
//! Most users depend on the package `rlock-client` and call `rlock::connect("sqlite:path/to/file")`, which uses this
//! crate.
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
//! The file is an SQLite database with a write-ahead log (WAL); SQLite is built in. Each client has one thread with
//! one connection and prepared statements, which carries out concurrent requests in one transaction. A resource is a
//! row. The row contains the holder as long as no other lease shares the resource or waits for it, so an operation
//! writes one page. A client reuses the row, and deletes it a minute after its last use. It splits a large batch, so
//! that other clients can write in between.
//!
//! Writers take turns by locks on two files beside the database, in the order in which the kernel queues them. A
//! process that is stopped in that queue delays the others once, by a quarter of a second; they then continue by
//! SQLite's own lock.
//!
//! A lease expires by the time since the start of the host (`CLOCK_BOOTTIME`), without the offset of a time
//! namespace. So a change of the wall clock neither frees a lock nor keeps it.
//!
//! The file names the clock of its times by the boot id, which changes at each restart of the host. A container may have
//! a boot id of its own, and without /proc the wall clock decides. A client with another clock than that of the file
//! converts the times: each lease starts the life of its last renewal again. So on one host no lease ends early, neither a
//! handle nor a minimum hold, and after a restart the lock of a dead holder is free within a TTL of the first connection.
//! Between two boot ids, a lease also ends when the new clock shows its old end, so while the host runs the conversion
//! prolongs no lease. A client converts the times only while no other client has the file open, which a lock on a third
//! file shows; otherwise connecting fails.
//!
//! A client leaves notices for other clients in a table, and writes to one of the files beside the database. On Linux
//! that wakes the clients that wait (inotify). Clients with leases also poll every 100 ms, because a lock may be
//! broken; waiters on other systems poll every 10 ms. A poll reads shared memory once, unless other clients have
//! written.
//!
//! # Access
//!
//! A new file belongs to the user who creates it (mode 600, folders 700). [`Access`], in a URL `?access=group` or
//! `?access=all`, opens it to a group or to all users of the host. These users can use the files in the folder, but
//! can neither delete nor replace them. Every user who may write to the file can release and break every lock in it,
//! and block all other users.
//!
//! For all users of a host, root creates the file once, when the system starts or a package is installed:
//!
//! ```sh
//! rlock list --url 'sqlite:/var/lib/rlock/locks.db?access=all'
//! ```
//!
//! The page `docs/shared-file.md` of the repository has the steps, and files for packages that set up a file for a group.
//!
//! Do not use a folder that all users may write to, such as /tmp or /run/lock itself: there the system keeps users
//! from opening the files of other users (`fs.protected_regular`). Use a folder inside it, such as `/run/lock/rlock`,
//! and create that folder at each start. A file that root creates in the folder of a user, as by `sudo -E`, belongs
//! to that user.
//!
//! # What it guarantees
//!
//! All that [`rlock_core::Backend`] asks for, among the processes of one host that open the same file. Fencing tokens
//! are max(previous + 1, the host's time in microseconds), so they keep increasing when the file is created again.
//!
//! A waiter with more than 100 waiters in front of it learns only an upper bound of their number.
//!
//! # What it cannot promise
//!
//! - **Several hosts.** On a network file system, the processes of one host would not see the locks of another.
//!   Connecting refuses such a file system. It also refuses one that a program provides (FUSE), unless
//!   `?file_system=local` states that it belongs to this host alone.
//! - **A stopped writer.** A process that is stopped in the middle of a write, which takes a fraction of a
//!   millisecond, blocks all other clients until it continues or dies.
//! - **A deleted file,** or a deleted log `…-wal`. Holders learn of it within 100 ms. The new file grants nothing for
//!   a second, so that they learn first; if the file `…-turn` was deleted too, that second is missing. If a holder is
//!   stopped meanwhile, only the fencing token protects what it writes to.
//! - **A long read transaction.** The log grows while another program reads the file in one transaction, and shrinks
//!   after it. `rlock check` reports a long log.
//! - **Forks.** A child has no thread for its parent's client, so the client refuses its requests. Connect again
//!   there.
//! - **Power.** A power failure ends all processes, and may lose the last writes, among them handles and minimum holds.
//! - **A file from another host.** A host cannot tell it from a file of its own earlier start. If its disk moves to a host
//!   that has been running for longer, handles and minimum holds may end there at once.
//! - **Alternating clocks.** If clients with /proc and clients without it open the file in turns, each change starts the
//!   lives of all leases again. The lock of a dead holder stays taken until the clock has not changed for a TTL.

mod access;
mod acquire;
mod backend;
mod baseline;
mod bell;
mod calls;
mod clock;
mod config;
mod connect;
mod error;
mod examine;
mod expecting;
mod extend;
mod file;
mod file_system;
mod inspect;
mod jobs;
mod list;
mod mail;
mod presence;
mod release;
mod request;
mod resource;
mod sweep;
mod turns;
mod worker;

pub use access::Access;
pub use backend::SqliteBackend;
pub use baseline::SqliteBaseline;
pub use config::{ConfigError, SqliteConfig};
pub use rlock_core::ConnectError;
