//! Clients by URL, and their settings. The tests of each store are among the tests of the examples.

use std::fmt::Debug;
use std::time::Duration;

use rlock::{Client, ConnectError, LockError, SimpleLock, blocking};
use tokio::runtime::Handle;

#[tokio::test]
async fn namespaces_of_memory_are_apart() {
    let mut guards = Vec::new();
    for url in ["memory:?namespace=left", "memory:?namespace=right"] {
        let client = rlock::connect(url).await.unwrap();
        guards.push(SimpleLock::new("apart", &client).unwrap().try_lock().await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn the_settings_of_the_caller_count() {
    let ttl = Duration::from_secs(77);
    let builder = Client::builder().label("billing").default_ttl(ttl).unwrap().runtime(Handle::current());
    let client = rlock::connect_with("memory:?namespace=settings", builder).await.unwrap();
    let guard = SimpleLock::new("x", &client).unwrap().lock().await.unwrap();
    let snapshot = client.inspect("x").await.unwrap();
    assert_eq!(snapshot.holders[0].owner.label(), Some("billing"));
    assert!(guard.remaining() > ttl / 2 && guard.remaining() < ttl);
}

#[test]
fn blocking_client_has_the_callers_settings() {
    let builder = Client::builder().label("billing").default_wait(Duration::ZERO);
    let client = blocking::connect_with("memory:?namespace=blocking-settings", builder).unwrap();
    let lock = blocking::SimpleLock::new("x", &client).unwrap();
    let _guard = lock.lock().unwrap();
    let snapshot = client.inspect("x").unwrap();
    assert_eq!(snapshot.holders[0].owner.label(), Some("billing"));
    assert!(matches!(lock.lock(), Err(LockError::TimedOut { .. })));
}

#[tokio::test]
async fn blocking_client_on_the_callers_runtime_is_refused() {
    let builder = Client::builder().runtime(Handle::current());
    let refused = blocking::connect_with("memory:", builder).unwrap_err();
    assert!(matches!(refused, ConnectError::NoThread(_)), "{refused:?}");
    assert!(refused.to_string().contains("build it without ClientBuilder::runtime"), "{refused}");
}

fn is_shared<T: Debug + Send + Sync>() {}

#[test]
fn types_of_the_stores_are_send_and_debug() {
    is_shared::<ConnectError>();
    #[cfg(feature = "redis")]
    {
        is_shared::<rlock::redis::RedisBackend>();
        is_shared::<rlock::redis::RedisBaseline>();
        is_shared::<rlock::redis::RedisConfig>();
        is_shared::<rlock::redis::ConfigError>();
    }
    #[cfg(feature = "etcd")]
    {
        is_shared::<rlock::etcd::EtcdBackend>();
        is_shared::<rlock::etcd::EtcdBaseline>();
        is_shared::<rlock::etcd::EtcdConfig>();
        is_shared::<rlock::etcd::ConfigError>();
    }
    #[cfg(feature = "sqlite")]
    {
        is_shared::<rlock::sqlite::Access>();
        is_shared::<rlock::sqlite::SqliteBackend>();
        is_shared::<rlock::sqlite::SqliteBaseline>();
        is_shared::<rlock::sqlite::SqliteConfig>();
        is_shared::<rlock::sqlite::ConfigError>();
    }
    #[cfg(feature = "postgres")]
    {
        is_shared::<rlock::postgres::PostgresBackend>();
        is_shared::<rlock::postgres::PostgresBaseline>();
        is_shared::<rlock::postgres::PostgresConfig>();
        is_shared::<rlock::postgres::ConfigError>();
    }
}

/// The future is a boxed trait object, so that no caller's crate compiles its content.
fn assert_boxed<T>(future: T) {
    assert_eq!(size_of_val(&future), 2 * size_of::<usize>());
}

#[test]
fn futures_of_connecting_are_boxed() {
    assert_boxed(rlock::connect("memory:"));
    assert_boxed(rlock::connect_with("memory:", Client::builder()));
    assert_boxed(rlock::backend::open("memory:", None));
    #[cfg(feature = "redis")]
    assert_boxed(rlock::redis::RedisBackend::connect(
        rlock::redis::RedisConfig::from_url("redis://localhost:6379").unwrap(),
    ));
    #[cfg(feature = "etcd")]
    assert_boxed(rlock::etcd::EtcdBackend::connect(
        rlock::etcd::EtcdConfig::from_url("etcd://localhost:2379").unwrap(),
    ));
    #[cfg(feature = "sqlite")]
    assert_boxed(rlock::sqlite::SqliteBackend::connect(rlock::sqlite::SqliteConfig::from_url("sqlite:x").unwrap()));
    #[cfg(feature = "postgres")]
    {
        let config = rlock::postgres::PostgresConfig::from_url("postgres://localhost/app").unwrap();
        assert_boxed(rlock::postgres::PostgresBackend::ensure_schema(&config));
        assert_boxed(rlock::postgres::PostgresBackend::connect(config));
    }
}
