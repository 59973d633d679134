//! The cost of a store without locks, by its URL.

use std::sync::Arc;

use rlock_core::{Baseline, MemoryBaseline, Namespace};

use crate::ConnectError;
use crate::connect::{feature, refusal, scheme};
use crate::memory;

/// Opens the baseline of the store at `url`: its cost without locks, which `rlock bench` compares locks with.
///
/// `namespace` replaces the one in the URL. It has to be a throw-away namespace, because
/// [`clean_up`](Baseline::clean_up) removes everything from it.
///
/// # Errors
///
/// As for [`connect`](crate::connect).
///
/// # Cancel safety
///
/// As for [`connect`](crate::connect).
pub async fn baseline(url: &str, namespace: &Namespace) -> Result<Arc<dyn Baseline>, ConnectError> {
    let scheme = scheme(url)?;
    match feature(&scheme) {
        Some("memory") => {
            memory::open(url, Some(namespace))?;
            Ok(Arc::new(MemoryBaseline::new()))
        }
        #[cfg(feature = "redis")]
        Some("redis") => {
            let config = rlock_redis::RedisConfig::from_url(url)?.namespace(namespace.clone());
            Ok(Arc::new(rlock_redis::RedisBaseline::connect(config).await?))
        }
        #[cfg(feature = "etcd")]
        Some("etcd") => {
            let config = rlock_etcd::EtcdConfig::from_url(url)?.namespace(namespace.clone());
            Ok(Arc::new(rlock_etcd::EtcdBaseline::connect(config).await?))
        }
        #[cfg(feature = "postgres")]
        Some("postgres") => {
            let config = rlock_postgres::PostgresConfig::from_url(url)?.namespace(namespace.clone());
            Ok(Arc::new(rlock_postgres::PostgresBaseline::connect(config).await?))
        }
        #[cfg(feature = "sqlite")]
        Some("sqlite") => {
            let config = rlock_sqlite::SqliteConfig::from_url(url)?.namespace(namespace.clone());
            Ok(Arc::new(rlock_sqlite::SqliteBaseline::connect(config).await?))
        }
        _ => Err(refusal(&scheme)),
    }
}
