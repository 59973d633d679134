//! The adapters, one file for each library.

mod advisory_lock;
mod distributed_lock_postgres;
mod distributed_lock_redis;
mod etcd_lock;
mod flock;
mod rslock;

pub use advisory_lock::AdvisoryLock;
pub use distributed_lock_postgres::DistributedLockPostgres;
pub use distributed_lock_redis::DistributedLockRedis;
pub use etcd_lock::EtcdLock;
pub use flock::Flock;
pub use rslock::Rslock;
