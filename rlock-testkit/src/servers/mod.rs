//! The servers that tests run on.
//!
//! The first available source is used:
//!
//! 1. the server that the environment names (`RLOCK_TEST_REDIS_URL=redis://host:port`), which all tests share;
//! 2. a container, if a Docker engine of this machine answers (feature `containers`, on by default);
//! 3. a server program on the `PATH`, or in Debian's folder for it, started in a temporary folder.
//!
//! If none is available, starting a server panics: a suite without a server has failed. The message says what to install.
//! A server that a test starts listens on the loopback interface only, and is removed when its value is dropped.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `RLOCK_TEST_REDIS_URL`, `RLOCK_TEST_ETCD_URL`, `RLOCK_TEST_POSTGRES_URL` | the server of source 1 |
//! | `RLOCK_TEST_SERVERS` | `containers` or `local`: only source 2, or only source 3 |
//! | `RLOCK_TEST_REDIS_IMAGE`, `RLOCK_TEST_ETCD_IMAGE`, `RLOCK_TEST_POSTGRES_IMAGE` | the image of source 2, as `name:tag`, instead of the official one |
//! | `DOCKER_HOST` | the address of the Docker engine, if it is not the usual socket |
//!
//! A server that a test configures, pauses, kills or restarts always comes from source 2 or 3: tests must not change
//! the one in the environment.
//!
//! An [`EtcdCluster`], a [`PgBouncer`], a standby of [`Postgres`] and the servers on a [`Host`] are always programs of
//! this machine. The containers of a [`RedisCluster`] and of [`RedisSentinels`] share the network and the process ids
//! of this machine, which has to run Linux.
//!
//! With the feature `sqlite`, a `SqliteFile` is a file that is locked and deleted as a server is paused and killed.
//!
//! Containers have the label `rlock-test`. A test that panics or is ended by SIGTERM or SIGINT removes its own. After
//! SIGKILL, remove them with `docker ps --quiet --all --filter label=rlock-test | xargs -r docker rm -fv`.

mod base64;
#[cfg(feature = "containers")]
mod containers;
mod etcd;
mod etcd_cluster;
mod gateway;
mod host;
mod http;
mod initdb;
mod instance;
mod leading;
mod local;
mod member;
mod peers;
mod pg_url;
mod pgbouncer;
mod pgwire;
mod postgres;
mod program;
mod redis;
mod redis_cluster;
mod redis_node;
mod redis_sentinels;
mod resp;
mod server;
mod service;
mod sockets;
mod source;
#[cfg(feature = "sqlite")]
mod sqlite_file;
mod store;
mod tree;
mod unprivileged;

pub use etcd::Etcd;
pub use etcd_cluster::{EtcdCluster, EtcdNode};
pub use gateway::Gateway;
pub use host::Host;
pub use leading::Leading;
pub use pgbouncer::PgBouncer;
pub use pgwire::PgWire;
pub use postgres::Postgres;
pub use redis::Redis;
pub use redis_cluster::RedisCluster;
pub use redis_node::RedisNode;
pub use redis_sentinels::RedisSentinels;
pub use resp::{Reply, Resp};
pub use server::free_port;
#[cfg(feature = "sqlite")]
pub use sqlite_file::SqliteFile;
pub(crate) use tree::end_descendants;
