//! rlock on etcd, version 3.4 and newer.

mod backend;
mod claim;
mod config;
mod conn;
mod epoch;
mod error;
mod events;
mod extend;
mod inner;
mod keeper;
mod keys;
mod line;
mod link;
mod list;
mod pool;
mod record;
mod table;
mod txn;
mod watcher;

pub use backend::EtcdBackend;
pub use config::{ConfigError, EtcdConfig};
pub use error::ConnectError;
