//! rlock on Redis, version 6.2 to 8, and Valkey, version 8 and 9.
//!
//! Most users depend on the package `rlock-client` and call `rlock::connect("redis://…")`, which uses this crate. It works with
//! one server, which may have replicas. A node of a Redis Cluster is refused when connecting, whether or not it has all
//! slots: claims of several locks fail there, and slots may move to other nodes.
//!
//! [`RedisConfig::ACL_RULES`] has the access rules for a user of the server.
//!
//! ```no_run
//! use rlock_redis::{RedisBackend, RedisConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = RedisConfig::from_url("redis://localhost?namespace=billing")?;
//! let backend = RedisBackend::connect(config).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! Each operation is one call of a Lua script, which the server runs without anything in between: it drops what
//! has expired by the server's clock, does what was asked for, and grants the next waiters. A batch is a call for
//! every 256 entries. A resource is one string, `rlock:2:{namespace:bucket}:name`, with a sorted set beside it
//! while clients wait or share it. An uncontended acquire reads and writes that string, and so does its release; an extension
//! writes eight bytes of it. The bucket is one of 64, by the hash slot of the name. The 2 is the version of the layout.
//!
//! A client has two connections, for commands and for its inbox. One that is cut is opened again at once. One that is
//! silent for half a second is held against a new one, and replaced if the server runs a script on that: requests on it
//! then fail as unknown, and are sent again.
//!
//! A waiter that is granted is told on the inbox of its client, a channel that nobody else listens to. So a
//! release wakes one client, however many wait, and costs the same number of commands.
//!
//! # What it guarantees
//!
//! All that [`rlock_core::Backend`] asks for, on one server that keeps its data:
//!
//! - Fencing tokens are max(previous + 1, the server's time in microseconds). They keep increasing when the server
//!   has lost its data, unless its clock went back by more than the time since the last grant.
//! - A resource that nobody uses leaves 16 bytes with its last token behind, which expire half an hour to an hour
//!   after the last lease did.
//! - Everything expires by itself: a client that crashes leaves nothing behind.
//!
//! # What Redis cannot promise
//!
//! - **Failover.** Replication is asynchronous: a primary that fails may take the latest grants with it, and the
//!   replica that takes over may grant them again. Two holders then overlap until the first one's TTL has passed or
//!   it learns that its lease is gone. Only the fencing token protects what they write to.
//! - **Restart.** A server without persistence forgets all leases. Nothing is claimed in it for its first seconds, in
//!   which holders that can reach it learn of their loss; with a [`restart_grace`](RedisConfig::restart_grace) as long as
//!   the longest TTL, the others have learned of it by their deadlines. A server with `appendfsync everysec` forgets the
//!   last second: a waiter may then be granted what somebody still believes to hold, until that one's deadline.
//! - **Eviction.** All keys have an expiry, so a server with a `maxmemory-policy` of `volatile-*` or `allkeys-*`
//!   evicts locks when it runs out of memory. Give locks a server with `noeviction`: that refuses new leases when
//!   memory is short. From version 7 on it extends and releases those that are there, if the user may read its version
//!   (`+info`). Version 6.2 releases exclusive ones, and extends none: they end when they expire.
//! - **Clock.** TTLs are counted on the clock of the server's host. If somebody sets that clock, leases end early or
//!   late by as much.

mod answers;
mod backend;
mod baseline;
mod config;
mod conn;
mod error;
mod examine;
mod inbox;
mod keys;
mod link;
mod list;
mod rights;
mod scripts;
mod server;

pub use backend::RedisBackend;
pub use baseline::RedisBaseline;
pub use config::{ConfigError, RedisConfig};
pub use rlock_core::ConnectError;
