//! rlock on Redis, version 6.2 to 8, and Valkey, version 8 and 9: one server, Sentinel, or Redis Cluster.
//!
//! Most users depend on the package `rlock-client` and call `rlock::connect("redis://…")`, which uses this crate.
//! [`RedisConfig::from_url`] lists the URLs of all topologies.
//!
//! [`RedisConfig::ACL_RULES`] lists the access rules for a user of the server.
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
//! Each operation is one call of a Lua script, which the server runs atomically: it drops leases that have expired by
//! the server's clock, carries out the request, and grants the next waiters. A batch is one call for every 256 entries.
//! A large batch of extensions or releases may take a second call, for the locks that clients share or wait for.
//! A resource is one string, `rlock:2:{namespace:tag}:name`, and a sorted set while clients wait or share it. An
//! uncontended acquire reads and writes that string, and so does its release; an extension writes eight bytes of it.
//! The tag is one of 16, by the hash slot of the name. The 2 is the version of the layout.
//!
//! A client has two connections to a server, for commands and for its inbox, and a third if replicas have to confirm.
//! It reopens a lost connection at once. When a connection has a request in flight and is silent for half a second, the
//! client opens another one. If the server runs a script on the new connection, it replaces the silent one. Requests on
//! the silent one fail as unknown and are sent again.
//!
//! A claim that was held back on a replaced connection must not bring back a lease that was released meanwhile. So a
//! claim carries the server's time half a second after it was sent, and the server drops it if it runs it later. It
//! answers with its time, and a client that still waits repeats the claim, with its `timeout` as the limit.
//!
//! The server notifies a granted waiter on the inbox of its client, a channel that no other client listens to. So a
//! release wakes one client and costs the same number of commands, however many wait.
//!
//! # Sentinel
//!
//! For every new connection the client asks the sentinels for the primary, and checks its role. The answer with the
//! highest configuration epoch counts. The client asks again every 400 ms, and leaves a primary within a second after
//! the first of the sentinels has replaced it.
//!
//! # Cluster
//!
//! A client has a connection for commands to each primary, and one for its inbox to any of them. A batch is one call
//! for each bucket in it, all concurrently, so that 100,000 renewals are a few hundred calls. The client builds its
//! map of slots from the answers of all primaries to `CLUSTER SLOTS`, and the majority decides. It follows `MOVED`
//! and `ASK` for single calls. A primary that hangs does not delay the claims and extensions of others for longer than
//! an eighth of their shortest TTL (750 ms at least, and 1.5 s for claims): its own then fail as unknown. A release
//! waits for all primaries of its batch, and so does a claim with `wait_replicas`: until the requests to the one that
//! hangs time out. New clients connect to the other primaries. Requests to a primary that hangs fail as unknown once a
//! replica has taken its place.
//!
//! While a slot moves, each key of a resource may be on either of two servers. A lock without waiters is one key, and
//! can be extended and released on either. Requests that need both keys, or a new lock in that slot, fail as not
//! applied until the slot has moved, and are sent again. A list fails meanwhile if it meets such a lock.
//!
//! With TLS, the certificates have to name the hosts that the nodes announce, or the hosts that an `address_map` gives
//! for them. With `cluster-announce-hostname` and `cluster-preferred-endpoint-type hostname`, nodes announce names.
//!
//! The names of a namespace are spread over 16 slots, so that 16 primaries at most share its work.
//!
//! # What it guarantees
//!
//! All that [`rlock_core::Backend`] asks for, on servers that keep their data:
//!
//! - Fencing tokens are max(previous + 1, the server's time in microseconds). They keep increasing after the server has
//!   lost its data, unless its clock went back by more than the time since the last grant.
//! - An unused resource leaves 16 bytes with its last token behind. They expire half an hour to an hour after the latest
//!   time at which one of its leases would have expired.
//! - All keys expire by themselves: a client that crashes leaves nothing behind.
//!
//! # What Redis cannot promise
//!
//! - **Failover.** Replication is asynchronous: a primary that fails may lose the latest grants, and the promoted
//!   replica may grant them again. After a promotion nothing is granted for the
//!   [`restart_grace`](RedisConfig::restart_grace) and one more second, counted from the time at which the first client
//!   finds the new primary. In that second the clients leave an old primary that still runs. So holders that can reach
//!   the new one learn of their loss first. A grace as long as the longest TTL also covers holders that cannot, because
//!   their deadlines pass. With a shorter one, two holders overlap until the first one's deadline. The old primary may go on granting to clients that only it can reach: `min-replicas-to-write 1` ends
//!   that after `min-replicas-max-lag`. So may an old primary that comes back behind a proxy or a name, which a
//!   `redis://` URL cannot tell from its successor: `redis-sentinel://` can. In all of these cases the fencing token
//!   protects what they write to.
//! - **Replicas that confirm.** [`wait_replicas`](RedisConfig::wait_replicas) counts a grant only once replicas have
//!   it. That reduces the risk of a failover, and does not remove it: see there.
//! - **Restart.** A server without persistence loses all leases. It grants nothing for its first seconds, in which
//!   holders that can reach it learn of their loss; with a grace as long as the longest TTL, the deadlines of the
//!   others pass as well. The same holds for a server with `appendfsync everysec`, which loses the last second.
//! - **Eviction.** All keys have an expiry, so a server with a `maxmemory-policy` of `volatile-*` or `allkeys-*` evicts
//!   locks when it runs out of memory. Use a server with `noeviction` for locks: it refuses new leases when memory is
//!   short. From version 7 on it extends and releases existing leases, if the user may read its version (`+info`).
//!   Version 6.2 releases exclusive leases, and extends none: they end when they expire.
//! - **Clock.** TTLs run by the clock of the server's host. If that clock is set, leases end early or late by as much.
//!   The same happens once, by the difference of two clocks, when a slot moves to another server or a replica is
//!   promoted.

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
mod deadline;
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
mod set_use;
mod silent_spell;
mod stragglers;
#[cfg(feature = "tls")]
mod tls;
mod uptime;
mod view;
mod wire;

pub use backend::RedisBackend;
pub use baseline::RedisBaseline;
pub use config::{ConfigError, RedisConfig};
pub use rlock_core::ConnectError;
