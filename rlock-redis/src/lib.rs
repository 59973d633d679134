//! rlock on Redis, version 6.2 to 8, and Valkey, version 8 and 9: one server, Sentinel, or Redis Cluster.
//!
//! Most users depend on the package `rlock-client` and call `rlock::connect("redis://…")`, which uses this crate.
//! [`RedisConfig::from_url`] has the URLs of all topologies.
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
//! every 256 entries. A resource is one string, `rlock:2:{namespace:tag}:name`, with a sorted set beside it
//! while clients wait or share it. An uncontended acquire reads and writes that string, and so does its release; an extension
//! writes eight bytes of it. The tag is one of 16, by the hash slot of the name. The 2 is the version of the layout.
//!
//! A client has two connections to a server, for commands and for its inbox, and a third where replicas have to confirm.
//! It opens a connection that is cut again at once. When a connection is silent for half a second the client opens another;
//! if the server runs a script on that, it replaces the silent one, and requests on it fail as unknown and are sent again.
//!
//! A waiter that is granted is told on the inbox of its client, a channel that nobody else listens to. So a
//! release wakes one client, however many wait, and costs the same number of commands.
//!
//! # Sentinel
//!
//! Every new connection asks the sentinels for the primary, and checks its role. The answer with the highest configuration
//! epoch counts. The client asks again every 400 ms, and leaves a primary that was replaced.
//!
//! # Cluster
//!
//! A client has a connection for commands to each primary, and one for its inbox to any of them. A batch is a call for each
//! bucket in it, all under way together, so that 100,000 renewals are a few hundred calls. The table of slots comes from
//! `CLUSTER SLOTS` of all primaries, of which most decide; `MOVED` and `ASK` lead single calls on.
//!
//! While a slot moves, each key of a resource may be in either of two servers. A lock without waiters is one key, which is
//! extended and released wherever it is. Requests that need both keys, or a lock that is new in that slot, fail as not
//! applied until the slot has moved, and are sent again.
//!
//! With TLS, the certificates have to name the hosts that the nodes announce, or those that an `address_map` has for them:
//! `cluster-announce-hostname` and `cluster-preferred-endpoint-type hostname` let them be names.
//!
//! The names of a namespace are spread over 16 slots, so that 16 primaries at most share its work.
//!
//! # What it guarantees
//!
//! All that [`rlock_core::Backend`] asks for, on servers that keep their data:
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
//!   replica that takes over may grant them again. After a promotion nothing is granted for the
//!   [`restart_grace`](RedisConfig::restart_grace), from the moment at which the first client finds it, so that holders who
//!   can reach the replica learn of their loss first. A grace as long as the longest TTL covers also those who cannot, by
//!   their deadlines. Without that, two holders overlap until the first one's deadline. The old primary may go on granting
//!   to clients that it alone can reach: `min-replicas-to-write 1` ends that after `min-replicas-max-lag`. In all of
//!   these cases the fencing token protects what they write to.
//! - **Replicas that confirm.** [`wait_replicas`](RedisConfig::wait_replicas) counts a grant only once replicas have it.
//!   That narrows the loss by a failover, and does not close it: see there.
//! - **Restart.** A server without persistence forgets all leases. Nothing is granted in it for its first seconds, in
//!   which holders that can reach it learn of their loss; with a grace as long as the longest TTL, the others have learned
//!   of it by their deadlines. The same holds for a server with `appendfsync everysec`, which forgets the last second.
//! - **Eviction.** All keys have an expiry, so a server with a `maxmemory-policy` of `volatile-*` or `allkeys-*`
//!   evicts locks when it runs out of memory. Give locks a server with `noeviction`: that refuses new leases when
//!   memory is short. From version 7 on it extends and releases those that are there, if the user may read its version
//!   (`+info`). Version 6.2 releases exclusive ones, and extends none: they end when they expire.
//! - **Clock.** TTLs are counted on the clock of the server's host. If that clock is set, leases end early or late by as
//!   much. So they do, for once, by the difference of two clocks when a slot moves to another server or a replica takes over.

mod acquire;
mod address;
mod advice;
mod answers;
mod backend;
mod baseline;
mod batch;
mod client;
mod cluster;
mod config;
mod confirm;
mod conn;
mod connect;
mod error;
mod events;
mod examine;
mod extend;
mod fitness;
mod grace;
mod inspect;
mod keys;
mod link;
mod list;
mod messages;
mod primary;
mod release;
mod replicas;
mod rights;
mod route;
mod scripts;
mod sentinel;
mod server;
mod standing;
#[cfg(feature = "tls")]
mod tls;
mod view;
mod wire;

pub use backend::RedisBackend;
pub use baseline::RedisBaseline;
pub use config::{ConfigError, RedisConfig};
pub use rlock_core::ConnectError;
