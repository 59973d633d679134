//! Distributed locks that stay held exactly as long as the work under them runs, on a store that you already have.
//!
//! ```
//! use std::time::Duration;
//!
//! use rlock::{LockOptions, SimpleLock};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = rlock::connect("memory:").await?; // or "redis://localhost:6379", "postgres://localhost/app"
//! let lock = SimpleLock::new("invoice/42", &client)?;
//!
//! let guard = lock.lock_with(LockOptions::new().ttl(Duration::from_secs(30)).wait(Duration::from_secs(60))).await?;
//! println!("held with token {}", guard.token());
//! // A watchdog extends the lease for as long as the guard lives.
//! guard.unlock().await?;
//! # Ok(()) }
//! ```
//!
//! # Stores
//!
//! | URL | feature | store |
//! | --- | --- | --- |
//! | `redis://host:port/db`, or `rediss://…` for TLS | `redis`, on by default | Redis 6.2 to 8, Valkey 8 and 9; see [`redis`] for the options |
//! | `redis-sentinel://host:port,host:port/service` | the same | the primary that sentinels name |
//! | `redis-cluster://host:port,host:port` | the same | Redis Cluster |
//! | `redis+unix:///path` | the same | a socket of this host |
//! | `etcd://host:port,host:port`, `etcds://…` | `etcd`; its build needs `protoc` | etcd 3.4 and 3.5; see [`etcd`] for the options |
//! | `postgres://host:port/database`, `postgresql://…` | `postgres` | Postgres 13 to 18; see [`postgres`] for the options and the tables it needs |
//! | `sqlite:path`, `sqlite:` for the user's own file | `sqlite`, on by default; its build needs a C compiler | a file, for the processes of one host; see [`sqlite`] for the options |
//! | `memory:`, `memory:?namespace=x` | none | this process; see [`memory`] |
//!
//! `valkey` can replace `redis` in these URLs. [`connect`] takes any of them, so changing the URL changes the store. A
//! custom store implements [`Backend`](backend::Backend); pass it to [`Client::new`].
//!
//! The feature `serde`, which is off by default, lets programs serialize snapshots, handles, owners, tokens and
//! statistics; see [`rlock_core`] for all types.
//!
//! # Locks
//!
//! [`SimpleLock`] is a mutex, [`RwLock`] allows many readers or one writer, and [`Semaphore`] has a number of permits.
//! All are fair on every store that keeps a queue, as all of these do: waiters are granted in the order in which their
//! claims reached the store. A [`LockSet`] takes several of them at once, and an [`Election`] lets one client lead.
//! [`blocking`] is for code without `async`.
//!
//! Each lock returns a [`Guard`], which holds the lock for as long as the guard lives, so bind it to a name. `try_run`
//! needs no guard: it runs work under the lock if the lock is free.
//!
//! Dropping a guard releases its lock in the background. The last drop of a client [waits](Client#dropping) for the
//! release, for a second at most, so `main` may return with a lock held. `std::process::exit` drops nothing.
//!
//! # Guarantees
//!
//! - A mutex has at most one holder at a time, on the store's clock, as long as the store keeps the writes that it has
//!   confirmed.
//! - Each grant has a greater [`token`](Guard::token), by which the protected system can reject a stale holder.
//! - A timer of the client [reports](Guard::lost) the loss of a lock before the store can grant the lock to another
//!   client. A hanging store or a broken network does not delay the timer. An outage that is shorter than the TTL less
//!   the watchdog's interval loses no lock: two thirds of the TTL by default.
//! - Locks stay alive while the caller's runtime is blocked, because the client has a thread of its own.
//! - Every `await` can be dropped: neither a lock nor a place in the queue stays behind.
//!
//! # Limits
//!
//! A process that is frozen past its deadline, and then acts without checking its guard, acts at the same time as the
//! next holder. The same is true for every holder after a failover of the store that lost writes. The token protects in
//! these cases.

#![cfg_attr(
    not(all(feature = "etcd", feature = "postgres", feature = "redis", feature = "sqlite")),
    allow(rustdoc::broken_intra_doc_links, reason = "each of them is a feature")
)]

pub mod backend;
mod baseline;
pub mod blocking;
mod connect;
pub mod memory;

/// Locks in etcd.
///
/// [`EtcdConfig::from_url`](etcd::EtcdConfig::from_url) lists the options of a URL. The [crate `rlock-etcd`](rlock_etcd)
/// says how the locks work, and what etcd cannot promise.
///
/// The build needs `protoc`, the compiler of Protocol Buffers, on the `PATH` or where `PROTOC` points to, with the
/// definitions that come with it. On Debian these are the packages `protobuf-compiler` and `libprotobuf-dev`.
#[cfg(feature = "etcd")]
pub mod etcd {
    pub use rlock_etcd::{ConfigError, ConnectError, EtcdBackend, EtcdBaseline, EtcdConfig};
}

/// Locks in Postgres.
///
/// [`PostgresConfig::from_url`](postgres::PostgresConfig::from_url) lists the options of a URL. The
/// [crate `rlock-postgres`](rlock_postgres) says how the locks work, and what Postgres cannot promise.
///
/// The locks are in tables. The first client creates them if its role may do so. Otherwise an administrator creates
/// them, by [`PostgresBackend::ensure_schema`](postgres::PostgresBackend::ensure_schema) or from the output of
/// `rlock schema`.
#[cfg(feature = "postgres")]
pub mod postgres {
    pub use rlock_postgres::{ConfigError, ConnectError, PostgresBackend, PostgresBaseline, PostgresConfig};
}

/// Locks in Redis and Valkey.
///
/// [`RedisConfig::from_url`](redis::RedisConfig::from_url) lists the URLs and their options. The
/// [crate `rlock-redis`](rlock_redis) says how the locks work, and what Redis cannot promise.
#[cfg(feature = "redis")]
pub mod redis {
    pub use rlock_redis::{ConfigError, ConnectError, RedisBackend, RedisBaseline, RedisConfig};
}

/// Locks in a file, for the processes of one host.
///
/// [`SqliteConfig::from_url`](sqlite::SqliteConfig::from_url) lists the options of a URL. The
/// [crate `rlock-sqlite`](rlock_sqlite) says how the locks work, and what a file cannot promise.
#[cfg(feature = "sqlite")]
pub mod sqlite {
    pub use rlock_sqlite::{Access, ConfigError, ConnectError, SqliteBackend, SqliteBaseline, SqliteConfig};
}

pub use connect::{ConnectError, connect, connect_with};
/// Metrics through the crate `metrics`, and statistics.
///
/// After `use rlock::*`, call the macros of that crate by `::metrics::counter!`, because this module has its name.
pub use rlock_core::metrics;
pub use rlock_core::{
    AdoptError, BackendError, Client, ClientBuilder, Clock, Cursor, Election, End, Entry, ExtendError,
    ExtensionFailure, Failure, FailureCallback, Guard, Holder, InvalidConfig, InvalidData, InvalidHandle, InvalidName,
    InvalidShare, InvalidTtl, Leader, Leadership, LeaseData, ListFilter, LockError, LockHandle, LockOptions, LockSet,
    LockSetGuard, LossReason, Lost, Moment, Namespace, Observation, Owner, Page, QueuePlace, ResourceName, RunError,
    RwLock, Semaphore, Share, ShutdownError, SimpleLock, Snapshot, StartError, StartWatchdogError, SuccessCallback,
    Token, Ttl, UnlockError, Waiter, Watchdog, WatchdogConfig, WatchdogFailure, WatchdogManager, WatchdogStats,
    WatchdogStatus,
};
