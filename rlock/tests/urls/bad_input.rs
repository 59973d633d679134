//! Bad input: each is refused with an error that says how to correct it.

use std::error::Error;
use std::time::Duration;

use rlock::{Client, LockOptions, Semaphore, SimpleLock, WatchdogConfig};

type Refusal = Box<dyn Error>;

fn assert_remedy(what: &str, refused: Result<(), Refusal>, remedy: &str) {
    let error = refused.expect_err(what).to_string();
    assert!(error.contains(remedy), "{what}: {remedy:?} is missing in {error:?}");
    assert!(!error.contains("hunter2"), "{what}: {error}");
}

async fn client() -> Client {
    rlock::connect("memory:").await.expect("memory is always there")
}

#[tokio::test]
async fn names() {
    let client = client().await;
    let long = "é".repeat(257);
    let cases = [
        ("empty", "", "give it 1 to 512 bytes"),
        ("too long", &long, "shorten or hash it"),
        ("a line break", "a\nb", "remove or escape it"),
        ("NUL", "a\0b", "remove or escape it"),
        ("an escape", "\u{1b}[31m", "remove or escape it"),
        ("a control character of its second page", "a\u{85}", "remove or escape it"),
    ];
    for (what, name, remedy) in cases {
        assert_remedy(what, SimpleLock::new(name, &client).map(drop).map_err(Into::into), remedy);
    }
}

#[tokio::test]
async fn hostile_names_lock_only_themselves() {
    let client = client().await;
    let names =
        ["*", "{a}", "a:b", "rlock:{x:y}", "' OR 1=1 --", "../..", "%00", "$(reboot)", "a/", "a", "A", "à", "a\u{300}"];
    let mut guards = Vec::new();
    for name in names {
        let lock = SimpleLock::new(name, &client).unwrap();
        guards.push(lock.try_lock().await.unwrap().unwrap_or_else(|| panic!("{name} is another lock's")));
    }
}

#[tokio::test]
async fn options() {
    let client = client().await;
    let lock = SimpleLock::new("options", &client).unwrap();
    let ms = Duration::from_millis;
    let cases = [
        ("a TTL of zero", LockOptions::new().ttl(Duration::ZERO), "choose one from 10ms"),
        ("a TTL of an age", LockOptions::new().ttl(Duration::MAX), "choose one from 10ms"),
        ("an interval of the TTL", LockOptions::new().ttl(ms(300)).watchdog_interval(ms(300)), "(100ms) leaves time"),
        ("an interval of zero", LockOptions::new().watchdog_interval(Duration::ZERO), "choose at least 1ms"),
        ("an interval for nothing", LockOptions::new().watchdog(false).watchdog_interval(ms(9)), "drop one of the two"),
    ];
    for (what, options, remedy) in cases {
        assert_remedy(what, lock.lock_with(options).await.map(drop).map_err(Into::into), remedy);
    }
    let waiting = LockOptions::new().wait(ms(5));
    assert_remedy("a try that waits", lock.try_lock_with(waiting).await.map(drop).map_err(Into::into), "use lock_with");
    assert_remedy("no permits", Semaphore::new("options", 0, &client).map(drop).map_err(Into::into), "at least 1");
    assert_remedy("a default TTL of zero", Client::builder().default_ttl(ms(0)).map(drop).map_err(Into::into), "10ms");
}

#[tokio::test]
async fn watchdogs() {
    let client = client().await;
    let guard = SimpleLock::new("watchdogs", &client).unwrap().lock().await.unwrap();
    let ms = |ms| Some(Duration::from_millis(ms));
    let new = WatchdogConfig::new;
    let cases = [
        ("interval = extend_by", WatchdogConfig { interval: ms(50), extend_by: ms(50), ..new() }, "use a shorter one"),
        ("interval > extend_by", WatchdogConfig { interval: ms(60), extend_by: ms(50), ..new() }, "use a shorter one"),
        ("extend_by of zero", WatchdogConfig { extend_by: ms(0), ..new() }, "choose one from 10ms"),
        ("interval of zero", WatchdogConfig { interval: ms(0), ..new() }, "choose at least 1ms"),
        ("no failure allowed", WatchdogConfig { max_failures: 0, ..new() }, "use 1 to give up"),
    ];
    for (what, config, remedy) in cases {
        assert_remedy(what, guard.start_watchdog(config).map(drop).map_err(Into::into), remedy);
    }
}

async fn assert_no_connection(what: &str, url: &str, remedy: &str) {
    assert_remedy(what, rlock::connect(url).await.map(drop).map_err(Into::into), remedy);
}

#[tokio::test]
async fn urls() {
    let cases = [
        ("nothing", "", "redis://HOST:PORT"),
        ("no scheme", "hunter2@localhost/0", "redis://HOST:PORT"),
        ("host and port", "localhost:6379", "redis://HOST:PORT"),
        ("an unknown scheme", "mysql://user:hunter2@localhost", "etcd://HOST:PORT"),
        ("memory with a host", "memory://user:hunter2@host", "write memory:"),
        ("an option of memory", "memory:?password=hunter2", "namespace alone"),
        ("a secret as an option of memory", "memory:?hunter2", "namespace alone"),
        ("an empty namespace", "memory:?namespace=", "give it 1 to 128 bytes"),
    ];
    for (what, url, remedy) in cases {
        assert_no_connection(what, url, remedy).await;
    }
}

#[cfg(not(feature = "etcd"))]
#[tokio::test]
async fn the_feature_etcd_that_is_off() {
    for url in ["etcd://user:hunter2@localhost", "etcds://a,b", "ETCD://localhost"] {
        assert_no_connection("feature off", url, r#"features = ["etcd"]"#).await;
        assert_no_connection("feature off", url, "apt-get install protobuf-compiler").await;
    }
}

#[cfg(not(feature = "redis"))]
#[tokio::test]
async fn the_feature_redis_that_is_off() {
    for url in ["redis://user:hunter2@localhost", "rediss://localhost", "REDIS://localhost"] {
        assert_no_connection("feature off", url, r#"features = ["redis"]"#).await;
    }
}

#[cfg(not(feature = "sqlite"))]
#[tokio::test]
async fn the_feature_sqlite_that_is_off() {
    assert_no_connection("feature off", "sqlite:locks.db", r#"features = ["sqlite"]"#).await;
    assert_no_connection("feature off", "sqlite:locks.db", "a C compiler").await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn urls_of_sqlite() {
    let cases = [
        ("in memory", "sqlite::memory:", "write sqlite:path/to/file, or memory:"),
        ("a folder", "sqlite:/tmp/", "write the path of a file in it"),
        ("what a shell has not expanded", "sqlite:~/locks.db", "write $HOME"),
        ("an unknown option", "sqlite:locks.db?mode=ro", "there are namespace, timeout"),
        ("a secret as a value", "sqlite:locks.db?timeout=hunter2", "from 1ms to 1h"),
        ("a secret as an option", "sqlite:locks.db?hunter2", "there are namespace, timeout"),
        ("an option twice", "sqlite:locks.db?timeout=1s&timeout=2s", "leave one out"),
        ("a time-out without a unit", "sqlite:locks.db?timeout=5", "500ms"),
        ("an empty namespace", "sqlite:locks.db?namespace=", "give it 1 to 128 bytes"),
        ("not UTF-8", "sqlite:%ff", "UTF-8"),
        ("no place for a file", "sqlite:/proc/no/locks.db", "cannot create the folder /proc/no"),
    ];
    for (what, url, remedy) in cases {
        assert_no_connection(what, url, remedy).await;
    }
}

#[cfg(feature = "etcd")]
mod etcd {
    use super::*;

    #[tokio::test]
    async fn urls() {
        let cases = [
            ("no host", "etcd://", "etcd://host:port"),
            ("a bad port", "etcd://user:hunter2@host,other:port", "1 to 65535"),
            ("a path", "etcd://user:hunter2@host/x", "?namespace="),
            ("an unknown option", "etcd://host?tiemout=1s", "there are namespace, timeout"),
            ("a secret as a value", "etcd://host?timeout=hunter2", "from 1ms to 1h"),
            ("a secret as another value", "etcd://host?restart_grace=hunter2", "up to 1h"),
            ("a secret as an option", "etcd://host?hunter2=1", "there are namespace, timeout"),
            ("a time-out without a unit", "etcd://host?timeout=5", "500ms"),
            ("an empty namespace", "etcd://host?namespace=", "give it 1 to 128 bytes"),
            ("a certificate without TLS", "etcd://host?ca=ca.pem", "write etcds://"),
            ("a certificate that is not there", "etcds://host?ca=/no/such/ca.pem", "/no/such/ca.pem"),
        ];
        for (what, url, remedy) in cases {
            assert_no_connection(what, url, remedy).await;
        }
    }

    #[tokio::test]
    async fn a_store_that_is_down() {
        for url in ["etcd://user:hunter2@127.0.0.1:1", "etcd://user:hunter2@127.0.0.1:1,[::1]:1"] {
            let error = rlock::connect(url).await.unwrap_err();
            assert!(error.is_unavailable() && !error.is_rejected(), "{error:?}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            assert_remedy("down", Err(error.into()), "is the server running?");
        }
    }
}

#[cfg(feature = "redis")]
mod redis {
    use super::*;

    #[tokio::test]
    async fn urls() {
        let cases = [
            ("no host", "redis://", "redis://host:port"),
            ("a bad port", "redis://user:hunter2@host:port", "redis://"),
            ("a bad database", "redis://user:hunter2@host/x", "use 0 to 255"),
            ("an unknown option", "redis://host?tiemout=1s", "there are namespace, timeout"),
            ("a secret as a value", "redis://host?timeout=hunter2", "from 1ms to 1h"),
            ("a secret as another value", "redis://host?restart_grace=hunter2", "up to 1h"),
            ("a secret as an option", "redis://host?hunter2=1", "there are namespace, timeout"),
            ("a time-out without a unit", "redis://host?timeout=5", "500ms"),
            ("an empty namespace", "redis://host?namespace=", "give it 1 to 128 bytes"),
        ];
        for (what, url, remedy) in cases {
            assert_no_connection(what, url, remedy).await;
        }
    }

    #[tokio::test]
    async fn a_store_that_is_down() {
        let error = rlock::connect("redis://user:hunter2@127.0.0.1:1").await.unwrap_err();
        assert!(error.is_unavailable() && !error.is_rejected(), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        assert_remedy("down", Err(error.into()), "is the server running?");
    }
}
