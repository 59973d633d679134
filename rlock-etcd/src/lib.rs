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
//! A lease is a key, `namespace/name/spot`, and the keys of a resource, in the order of the revisions that created them, are
//! its line. Nothing says that a lease is held: it is, if there is room for it and for all in front of it. So whatever takes
//! a key out of the line grants the next in the same step, be it a release, a break, or etcd itself, which deletes what has
//! expired. This is the recipe of etcd's own `concurrency` package, with weights.
//!
//! Spots are used again, because etcd walks over each deleted key of a range until its history is compacted: a sole holder
//! is always at the first spot of its resource, and others are at one of 64, or of four times as many as there are leases. So
//! the cost of a lock does not grow with its history, also where each client lives for one lock only.
//!
//! Each key is attached to a lease of etcd's. Those are pooled: a released lock leaves one behind for the next, so that an
//! acquire and a release are one raft entry each, alone or many together. A try that has to be refused only reads.
//!
//! Extensions are keep-alives, over eight streams however many locks there are, and a look at the keys; neither is a raft
//! entry. A keep-alive alone would not do: a server may confirm what it has deleted. Extending a lock beyond the TTL that it
//! was granted attaches its key to another lease of etcd's. A release with a rest attaches it to one that lives as long as
//! the rest.
//!
//! A waiter watches its own key and the nearest in front of it that leave it no room: one, for a mutex. So a release wakes one
//! waiter, however many there are; with a semaphore, at most as many as it has permits. In a long line a request reads the
//! keys that matter to one lease, and not the line; etcd sorts the line for it where a waiter joins or is woken. A holder's
//! own key is watched once it has been held for some 30 ms, and a key that somebody deletes is a lock that is lost at once.
//!
//! A client has one connection, to whichever server answers first. When it breaks, or a request got stuck on it and another
//! server answers, it is replaced, and the streams with it. A request that is not answered within a second is sent once more.
//!
//! # What it guarantees
//!
//! All that [`rlock_core::Backend`] asks for, with these differences, which the capabilities tell:
//!
//! - TTLs are whole seconds, and not less than the servers allow: one and a half times their election timeout, rounded up,
//!   which is 2 s by default. Shorter ones are rounded up, and holders keep to the deadline that they asked for.
//! - An expired lease is there for up to about a second more. A new leader gives all leases their whole lives again: what a
//!   dead holder costs may then be twice its TTL and an election.
//! - Fencing tokens are the revisions that created the keys, counted from the time in microseconds at which the namespace was
//!   first used. That is kept in the key `namespace/`, the only one that stays: for 30 days after the last use of the
//!   namespace, or an hour where there is no [`restart_grace`](EtcdConfig::restart_grace).
//! - How long ago a lock was granted is shown by the clocks of the hosts; etcd has none to ask. Nothing else depends on them.
//!   A lock that was waited for writes it down, unless [`note_holds`](EtcdConfig::note_holds) is off.
//! - A waiter with eight or more in front of it, in a line of more than 16, learns how many are in front of it at most.
//! - Rests are whole seconds, rounded up, as TTLs are.
//!
//! While most servers are there and agree on a leader, one that fails costs no lock whose TTL is longer than the election,
//! which takes one to two seconds by default, by as much as an extension takes.
//!
//! # What etcd cannot promise
//!
//! - **Loss of all data.** A cluster that comes back empty, or as an older snapshot, has forgotten what was granted since. In
//!   an empty one nothing is claimed for its first seconds, in which holders that can reach it learn of their loss; see
//!   [`restart_grace`](EtcdConfig::restart_grace). A snapshot is to be restored with `--bump-revision`, or tokens go back.
//! - **Old servers.** Before 3.4.31 and 3.5.13 a leader that stood still for longer than a TTL and wakes up may end leases that
//!   were extended meanwhile (etcd issue 15247), and so a lock that is held; its holder is told at once. Before 3.4.38, 3.5.23
//!   and 3.6.5 an extension may be confirmed although the lease was ended (issue 20615); that is why keys are looked at. An early
//!   3.5, seen with 3.5.1, may crash where a request that reads is given up, as one is that was sent twice: use 3.5.13 or later.
//! - **A full database.** etcd then grants no leases, and may deny claims that it has carried out; locks that are held can be
//!   extended, though not beyond the TTL that they were granted, and released. Before 3.5.7 it may lose them.

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
mod keeper;
mod keys;
mod line;
mod link;
mod list;
mod pool;
mod record;
mod release;
mod spot;
mod survey;
mod table;
mod txn;

pub use backend::EtcdBackend;
pub use baseline::EtcdBaseline;
pub use config::{ConfigError, EtcdConfig};
pub use rlock_core::ConnectError;
