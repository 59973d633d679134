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
//! The file is a database of SQLite, which is built in, with its log beside it (WAL). Each client has one thread, with one
//! connection and prepared statements. It does the requests that come together in one transaction. A resource is a row, and
//! its holder is in that row while no other lease shares it or waits for it, so that an operation writes one page. The row is
//! used again, and deleted a minute after its last use. A large batch is done in parts, between which other clients write.
//!
//! Writers take turns by locks on two files beside it, in the order in which the kernel queues them. A process that is stopped
//! in that queue delays the others by a quarter of a second, once; then they go on by SQLite's own lock.
//!
//! A lease expires by the time since the host was started (`CLOCK_BOOTTIME`), so that setting a clock neither frees a lock nor
//! keeps it. Offsets of time namespaces are left out of it. The first client after another start of the host deletes all leases.
//! A container may have a boot id of its own, so this happens only while no other client has the file open, which a
//! lock on a third file shows; otherwise the client is refused. Without /proc the wall clock decides.
//!
//! A client leaves notices for others in a table, and writes to one of the files beside it, which on Linux wakes the
//! clients that wait (inotify). Clients with leases look every 100 ms all the same, because a lock may be broken; waiters on
//! other systems look every 10 ms. A look is one read of shared memory, unless others have written.
//!
//! # Who may use it
//!
//! A new file is for the user who makes it (mode 600, folders 700). [`Access`], in a URL `?access=group` or `?access=all`, opens
//! it to a group or to all users of the host. The folder stays closed to them: they use the files in it, and can neither delete
//! nor replace them. Every user who may write to the file can release and break every lock in it, and stop all others.
//!
//! For all users of a host, root makes the file once, when the system starts or a package is installed:
//!
//! ```sh
//! rlock list --url 'sqlite:/var/lib/rlock/locks.db?access=all'
//! ```
//!
//! The folder must not be one that all may write to, such as /tmp or /run/lock itself: there the system keeps users from
//! opening the files of others (`fs.protected_regular`). A folder in it will do, as `/run/lock/rlock`, which has to be made at
//! each start. A file that root makes in the folder of a user, as by `sudo -E`, is that user's.
//!
//! # What it guarantees
//!
//! All that [`rlock_core::Backend`] asks for, among the processes of one host that open the same file. Fencing tokens are
//! max(previous + 1, the host's time in microseconds), so that they keep increasing in a file that is made anew.
//!
//! # What it cannot promise
//!
//! - **One host.** On a network file system the processes of several hosts would not see each other's locks; it is refused. So
//!   is one that a program provides (FUSE), unless `?file_system=local` says that it is this host's alone.
//! - **A stopped writer.** A process that is stopped in the middle of a write, which takes a fraction of a millisecond,
//!   holds up all others until it goes on or dies.
//! - **A deleted file,** or a deleted log `…-wal`. Holders learn of it within 100 ms, and for a second nothing is granted, so
//!   that they learn first. If the file `…-turn` is deleted too, that second is missing. Of a process that is stopped meanwhile,
//!   only the fencing token protects what it writes to.
//! - **Readers of long standing.** The log grows while another program reads the file in one transaction. `rlock check` reports
//!   a long log.
//! - **Forks.** A child has no thread for its parent's client, so the client refuses its requests. Connect again there.
//! - **Power.** What was written last may be lost with the power, together with all holders.

mod access;
mod acquire;
mod backend;
mod baseline;
mod bell;
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
