//! Distributed locks that stay held exactly as long as the work under them runs, on the store that is there already.
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
//! | `sqlite:path`, `sqlite:` for a file of the user's | `sqlite`, on by default; its build needs a C compiler | a file, for the processes of one host; see [`sqlite`] |
//! | `memory:`, `memory:?namespace=x` | none | this process; see [`memory`] |
//!
//! `valkey` means the same as `redis` in these. [`connect`] takes any of them, so that a store is swapped by its URL. A store of one's own implements
//! [`Backend`](backend::Backend) and is given to [`Client::new`].
//!
//! # Locks
//!
//! [`SimpleLock`] is a mutex, [`RwLock`] lets many readers or one writer in, [`Semaphore`] has a number of permits.
//! All are fair: waiters are served in the order of coming, on every store that keeps a queue, as all of these do.
//! A [`LockSet`] takes several of them at once, and an [`Election`] lets one client lead. [`blocking`] is for code without
//! `async`.
//!
//! Each hands out a [`Guard`], which holds the lock for as long as it lives, so bind it to a name. `try_run` needs none: it
//! runs work under the lock if the lock is free.
//!
//! A dropped guard releases in the background. The last drop of a client [waits](Client#dropping) for that, a second at
//! most, so that `main` may return with a lock held; `std::process::exit` drops nothing.
//!
//! # What is guaranteed
//!
//! - At most one holder at a time, on the store's clock, for as long as the store keeps what it has confirmed.
//! - A [`token`](Guard::token) that grows with every grant, for the resource that has to reject a stale holder.
//! - The loss of a lock is [told](Guard::lost) before the store can give the lock to somebody else, by a timer of
//!   its own: a hanging store or a cut network delays nothing. An outage shorter than the TTL loses nothing.
//! - Locks stay alive while the caller's runtime is blocked; the client has a thread of its own.
//! - Every `await` can be dropped: neither a lock nor a place in the queue stays behind.
//!
//! # What is not
//!
//! A process that is frozen past its deadline and then acts without looking at its guard acts beside the next holder;
//! so does everybody after a failover of the store that lost writes. The token is what protects then.

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
/// The crate that does the work is built with `protoc`, the compiler of Protocol Buffers, which has to be on the
/// `PATH`, or where `PROTOC` points to, with the definitions that come with it. On Debian they are in the packages
/// `protobuf-compiler` and `libprotobuf-dev`.
#[cfg(feature = "etcd")]
pub mod etcd {
    pub use rlock_etcd::{ConfigError, ConnectError, EtcdBackend, EtcdBaseline, EtcdConfig};
}

/// Locks in Postgres.
///
/// They are in tables. The first client makes them where its role may; otherwise an administrator does, by
/// [`PostgresBackend::ensure_schema`](postgres::PostgresBackend::ensure_schema) or from what `rlock schema` prints.
#[cfg(feature = "postgres")]
pub mod postgres {
    pub use rlock_postgres::{ConfigError, ConnectError, PostgresBackend, PostgresBaseline, PostgresConfig};
}

/// Locks in Redis and Valkey.
#[cfg(feature = "redis")]
pub mod redis {
    pub use rlock_redis::{ConfigError, ConnectError, RedisBackend, RedisBaseline, RedisConfig};
}

/// Locks in a file, for the processes of one host.
#[cfg(feature = "sqlite")]
pub mod sqlite {
    pub use rlock_sqlite::{Access, ConfigError, ConnectError, SqliteBackend, SqliteBaseline, SqliteConfig};
}

pub use connect::{ConnectError, connect, connect_with};
pub use rlock_core::metrics;
pub use rlock_core::{
    AdoptError, BackendError, Client, ClientBuilder, Clock, Cursor, Election, End, Entry, ExtendError,
    ExtensionFailure, Failure, FailureCallback, Guard, Holder, InvalidConfig, InvalidData, InvalidHandle, InvalidName,
    InvalidShare, InvalidTtl, Leader, Leadership, LeaseData, ListFilter, LockError, LockHandle, LockOptions, LockSet,
    LockSetGuard, LossReason, Lost, Moment, Namespace, Observation, Owner, Page, ResourceName, RunError, RwLock,
    Semaphore, Share, ShutdownError, SimpleLock, Snapshot, StartError, StartWatchdogError, SuccessCallback, Token, Ttl,
    UnlockError, Waiter, Watchdog, WatchdogConfig, WatchdogFailure, WatchdogManager, WatchdogStats, WatchdogStatus,
};
