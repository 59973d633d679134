//! One function connects to every store that a URL names.

use rlock::SimpleLock;
use rlock_testkit::servers::Redis;

/// A lock that one client of `url` holds is taken for another client of it.
async fn assert_locks_are_shared(url: &str) {
    let one = rlock::connect(url).await.unwrap();
    let two = rlock::connect(url).await.unwrap();
    let guard = SimpleLock::new("shared", &one).unwrap().lock().await.unwrap();
    let lock = SimpleLock::new("shared", &two).unwrap();
    assert!(lock.try_lock().await.unwrap().is_none());
    guard.unlock().await.unwrap();
    let next = lock.try_lock().await.unwrap().unwrap();
    next.unlock().await.unwrap();
}

fn namespace() -> String {
    format!("connect-{}", std::process::id())
}

#[tokio::test]
async fn clients_of_memory_share_its_locks() {
    assert_locks_are_shared("memory:").await;
    assert_locks_are_shared("memory:?namespace=b%C3%BCro").await;
}

#[tokio::test]
async fn clients_of_a_file_share_its_locks() {
    let folder = tempfile::tempdir().unwrap();
    assert_locks_are_shared(&format!("sqlite:{}/locks.db", folder.path().display())).await;
}

#[tokio::test]
async fn clients_of_redis_share_its_locks() {
    let redis = Redis::start();
    let url = format!("{}?namespace={}", redis.url(), namespace());
    assert_locks_are_shared(&url).await;
    assert_locks_are_shared(&url.replacen("redis://", "valkey://", 1)).await;
}

#[cfg(feature = "etcd")]
#[tokio::test]
async fn clients_of_etcd_share_its_locks() {
    let etcd = rlock_testkit::servers::Etcd::start();
    assert_locks_are_shared(&format!("{}?restart_grace=0s&namespace={}", etcd.url(), namespace())).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn clients_of_postgres_share_its_locks() {
    let postgres = rlock_testkit::servers::Postgres::start();
    let url = format!("{}?namespace={}", postgres.url(), namespace());
    let config = rlock::postgres::PostgresConfig::from_url(&url).unwrap();
    rlock::postgres::PostgresBackend::ensure_schema(&config).await.unwrap();
    assert_locks_are_shared(&url).await;
}

#[tokio::test]
async fn wrong_password_is_rejected_and_not_repeated() {
    let redis = Redis::start_durable();
    redis.resp().command(&["CONFIG", "SET", "requirepass", "right"]);
    let with = |credentials: &str| redis.url().replace("redis://", &format!("redis://{credentials}@"));
    let cases = [
        ("no password", redis.url().to_owned(), "put user:password@ into the URL"),
        ("a wrong password", with(":hunter2"), "check the user and the password"),
        ("a wrong user", with("somebody:right"), "check the user and the password"),
    ];
    for (what, url, remedy) in cases {
        let error = rlock::connect(&url).await.unwrap_err();
        assert!(error.is_rejected() && !error.is_unavailable(), "{what}: {error:?}");
        assert!(error.to_string().contains(remedy), "{what}: {error}");
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{what}: {error:?}");
    }
    rlock::connect(&with(":right")).await.unwrap();
}
