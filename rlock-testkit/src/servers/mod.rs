//! The servers that tests run on.
//!
//! They come from the first of these that is there:
//!
//! 1. the server that the environment names (`RLOCK_TEST_REDIS_URL=redis://host:port`), which all tests share;
//! 2. a container, if a Docker engine of this machine answers (feature `containers`, on by default);
//! 3. a server program on the `PATH`, or where Debian keeps it, started in a temporary folder.
//!
//! With none of them, starting a server panics and says what to install: a suite that found no server has failed.
//! What was started for a test listens on the loopback interface only, and is gone when the value that stands for it
//! is dropped.
//!
//! | variable | what it says |
//! | --- | --- |
//! | `RLOCK_TEST_REDIS_URL`, `RLOCK_TEST_ETCD_URL`, `RLOCK_TEST_POSTGRES_URL` | the server of the first kind |
//! | `RLOCK_TEST_SERVERS` | `containers` or `local`: only the second, or only the third kind |
//! | `RLOCK_TEST_REDIS_IMAGE`, `RLOCK_TEST_ETCD_IMAGE`, `RLOCK_TEST_POSTGRES_IMAGE` | the image of the second kind, as `name:tag`, in place of the official one |
//! | `DOCKER_HOST` | where the Docker engine listens, if not at the usual socket |
//!
//! A server that a test configures, pauses, kills or restarts is always one of the last two kinds: the one in the
//! environment is not ours to tamper with.
//!
//! An [`EtcdCluster`] and a [`PgBouncer`] are programs of this machine always. The containers of a [`RedisCluster`] and of
//! [`RedisSentinels`] share the network and the process ids of this machine, which has to run Linux.
//!
//! Containers carry the label `rlock-test`. A test that panics or is ended by SIGTERM or SIGINT removes its own; one
//! that is killed leaves them to `docker ps --quiet --all --filter label=rlock-test | xargs -r docker rm -fv`.

mod base64;
#[cfg(feature = "containers")]
mod containers;
mod etcd;
mod etcd_cluster;
mod gateway;
mod http;
mod initdb;
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
mod store;
mod tree;
mod unprivileged;

pub use etcd::Etcd;
pub use etcd_cluster::{EtcdCluster, EtcdNode};
pub use gateway::Gateway;
pub use leading::Leading;
pub use pgbouncer::PgBouncer;
pub use pgwire::PgWire;
pub use postgres::Postgres;
pub use redis::Redis;
pub use redis_cluster::RedisCluster;
pub use redis_node::RedisNode;
pub use redis_sentinels::RedisSentinels;
pub use resp::{Reply, Resp};
