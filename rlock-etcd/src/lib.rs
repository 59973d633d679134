//! rlock on etcd, version 3.4 and 3.5.
//!
//! Most users depend on the package `rlock-client` with its feature `etcd` and call `rlock::connect("etcd://…")`, which uses
//! this crate. It works with one server and with a cluster. Building it needs `protoc` and its standard definitions (Debian:
//! `apt-get install protobuf-compiler libprotobuf-dev`).
//!
//! ```no_run
//! use rlock_etcd::{EtcdBackend, EtcdConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = EtcdConfig::from_url("etcd://10.0.0.7,10.0.0.8,10.0.0.9?namespace=billing")?;
//! let backend = EtcdBackend::connect(config).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! A lease is a key, `namespace/name/spot`. The keys of a resource, in the order of the revisions that created them,
//! are its line. The line decides whether a lease is held: it is if the capacity has room for it and for all leases in
//! front of it. So each deletion of a key grants the next lease in the same step: a release, a break, or the expiry by
//! etcd itself. This is the recipe of etcd's own `concurrency` package, with weights.
//!
//! Spots are reused, because etcd walks over each deleted key of a range until its history is compacted. A sole holder
//! is always at the first spot of its resource. Others are at one of 64 spots, or of four times as many spots as there
//! are leases. So the cost of a lock does not grow with its history, even if each client lives for one lock only.
//!
//! Each key is attached to an etcd lease. The client keeps a pool of etcd leases: a released lock leaves one behind for
//! the next lock. So an acquire and a release cost one raft entry each, and so does a batch of them. A try that is
//! refused only reads.
//!
//! An extension is a keep-alive and a read of the keys; neither is a raft entry. All keep-alives share eight streams,
//! however many locks there are. Only the keep-alive of a lease that may have expired has a stream to itself, also if
//! the lease expires before the keep-alive is sent or sent again: a server holds up the stream until it has revoked the
//! lease. A keep-alive alone is not enough: a server may confirm an etcd lease that it has deleted. To extend a lock
//! beyond the TTL that it was granted, the client attaches its key to another etcd lease. A release with a rest attaches
//! it to an etcd lease that lives as long as the rest.
//!
//! A waiter watches its own key and the nearest keys in front of it that leave it no room: one key, for a mutex. So a
//! release of a mutex wakes one waiter, however many wait; a release of a semaphore wakes at most as many as it has
//! permits. In a long line a request reads only the keys that matter to one lease; etcd sorts the line for it when a
//! waiter joins or wakes. If counting does not show whether a semaphore has room, a waiter reads more leases, until
//! they leave no room, and a try reads those of several permits, 10,000 at a time. The client watches a holder's own key once the
//! lease has been held for 30 to 60 ms. If another client deletes the key, the holder loses the lock at once.
//!
//! A client has one connection, to the first server that answers. The client replaces the connection and its streams
//! when it breaks, or when a request gets stuck on it and another server answers. It sends a request again if no answer
//! comes within a second.
//!
//! # What it guarantees
//!
//! All that [`rlock_core::Backend`] asks for, with these differences, which the capabilities report:
//!
//! - TTLs are whole seconds, and at least the servers' minimum: one and a half times their election timeout, rounded
//!   up, which is 2 s by default. The client rounds shorter TTLs up, and holders keep to the deadline that they asked
//!   for.
//! - An expired lease stays for up to about a second more. A new leader resets all leases to their full TTL: a dead
//!   holder may then block others for twice its TTL plus an election.
//! - Fencing tokens are the revisions that created the keys, counted from the time in microseconds at which the
//!   namespace was first used. The key `namespace/` keeps that time. It is the only key that stays: for 30 days after
//!   the last use of the namespace, or an hour where there is no [`restart_grace`](EtcdConfig::restart_grace).
//! - Snapshots show how long ago a lock was granted by the clocks of the hosts, because etcd has no clock to read.
//!   Nothing else depends on these clocks. A lock that was waited for writes this time into its key, unless
//!   [`note_holds`](EtcdConfig::note_holds) is off.
//! - A waiter with eight or more leases in front of it, in a line of more than 16, learns only an upper bound of the
//!   waiters ahead.
//! - Rests are whole seconds, rounded up, as TTLs are.
//! - A line of more than 64 MB, some 50,000 leases with the longest data, is too long to be read whole. Requests to show
//!   it or to break it fail, and so do those that let a lease in it rest or name one of another client.
//!
//! While a majority of the servers is up and agrees on a leader, the failure of one server costs no lock whose TTL is
//! longer than an election plus an extension. An election takes one to two seconds by default.
//!
//! # What etcd cannot promise
//!
//! - **Loss of all data.** A cluster that comes back empty, or as an older snapshot, has forgotten the locks that it
//!   granted since. An empty cluster grants no claim for its first seconds, in which holders that can reach it learn of
//!   their loss; see [`restart_grace`](EtcdConfig::restart_grace). Restore a snapshot with `--bump-revision`, or tokens
//!   go back.
//! - **Old servers.** Before 3.4.31 and 3.5.13 a leader that stalls for longer than a TTL and resumes may end leases
//!   that were extended meanwhile (etcd issue 15247), and so end a lock that is held; its holder is notified at once.
//!   Before 3.4.38, 3.5.23 and 3.6.5 a server may confirm an extension although the lease has ended (issue 20615); that
//!   is why extensions read the keys. An early 3.5, seen with 3.5.1, may crash when the client cancels a read, as it
//!   does with the slower of two copies of a request: use 3.5.13 or later.
//! - **A full database.** etcd then grants no leases, and may deny claims that it has carried out. Locks that are held
//!   can be released, and extended up to the TTL that they were granted. Before 3.5.7 etcd may lose them. `rlock check`
//!   compares the size with the quota, which servers before 3.6 report only in their metrics: with TLS it is not known.

mod acquire;
mod answer;
mod attach;
mod backend;
mod baseline;
mod config;
mod conn;
mod connect;
mod crowds;
mod epoch;
mod error;
mod events;
mod examine;
mod extend;
mod inner;
mod inspect;
mod keep_alive;
mod keys;
mod known;
mod line;
mod link;
mod list;
mod observe;
mod own_leases;
mod pool;
mod quota;
mod record;
mod release;
mod sighting;
mod spot;
mod survey;
mod txn;
mod young;

pub use backend::EtcdBackend;
pub use baseline::EtcdBaseline;
pub use config::{ConfigError, EtcdConfig};
pub use rlock_core::ConnectError;
