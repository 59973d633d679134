//! URLs: their meaning, and the errors of those that have none.

use std::time::Duration;

use rlock_core::Namespace;
use rlock_redis::{ConfigError, RedisConfig};

#[test]
fn url_sets_every_option_or_almost_none() {
    let whole =
        "redis://us%40r:p%23ss@[::1]:7000/3?namespace=my%20jobs&timeout=250ms&connect_timeout=1m&restart_grace=0s";
    let config = RedisConfig::from_url(whole).unwrap();
    assert_eq!(config.address(), "redis://[::1]:7000/3");
    let same = RedisConfig::from_url("redis://us%40r:p%23ss@[::1]:7000/3")
        .unwrap()
        .namespace(Namespace::new("my jobs").unwrap())
        .timeout(Duration::from_millis(250))
        .unwrap()
        .connect_timeout(Duration::from_secs(60))
        .unwrap()
        .restart_grace(Duration::ZERO)
        .unwrap();
    assert_eq!(config, same);

    for (url, address) in [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://localhost/", "redis://localhost:6379/0"),
        ("redis://:secret@10.0.0.7:1/15?", "redis://10.0.0.7:1/15"),
        ("rediss://redis.example.com", "rediss://redis.example.com:6379/0"),
        ("valkey://localhost", "redis://localhost:6379/0"),
        ("valkeys://:a,b@localhost", "rediss://localhost:6379/0"),
        ("redis-sentinel://:a@one,two:7/my%20main/2", "redis-sentinel://one:26379,two:7/my main/2"),
        ("rediss-sentinel://one/main", "rediss-sentinel://one:26379/main/0"),
        ("redis-cluster://one,[::1]:7,one", "redis-cluster://one:6379,[::1]:7"),
        ("valkeys-cluster://one:1/", "rediss-cluster://one:1"),
        ("redis+unix:///run/redis/my%20redis.sock?db=3", "redis+unix:///run/redis/my redis.sock?db=3"),
    ] {
        assert_eq!(RedisConfig::from_url(url).unwrap().address(), address);
    }
}

#[test]
fn unusable_urls_are_refused_with_a_remedy() {
    let cases = [
        ("nonsense", "redis://user:password@host"),
        ("http://localhost", "use redis://"),
        ("redis://", "names no host"),
        ("redis:///0", "names no host"),
        ("redis://one:6379,two:6379", "redis-sentinel://host:port,host:port/service"),
        ("redis-sentinel://one,two", "names no service"),
        ("redis-sentinel://one/main/x", "0 to 255"),
        ("redis-sentinel://one,/main", "names no host"),
        ("redis-sentinel://one/main?sentinel_user=a", "needs sentinel_password"),
        ("redis-cluster://one/3", "only the database 0"),
        ("redis-cluster://one?address_map=10.0.0.5:6379", "write pairs as"),
        ("redis-cluster://one?address_map=10.0.0.5:6379=", "write pairs as"),
        ("redis-sentinel://one/main?address_map=10.0.0.5=localhost:1", "write pairs as"),
        ("redis://one?address_map=10.0.0.5:6379=localhost:1", "unknown option"),
        ("redis-cluster://one?sentinel_password=a", "unknown option"),
        ("redis+unix:///socket?user=a", "needs pass"),
        ("redis+unix:///socket?db=x", "0 to 255"),
        ("redis+unix:///socket?ca=/ca.pem", "unknown option"),
        ("redis+unix:///socket?cert=/cert.pem&key=/key.pem", "unknown option"),
        ("redis://localhost?db=1", "unknown option"),
        ("redis://localhost?ca=/ca.pem", "rediss://"),
        ("rediss://localhost?cert=/cert.pem", "needs key"),
        ("rediss://localhost?ca=", "name of a PEM file"),
        ("redis://localhost?wait_replicas=0", "from 1 to 100"),
        ("redis://localhost?wait_replicas=x", "from 1 to 100"),
        ("redis://localhost?wait_timeout=1s", "needs wait_replicas"),
        ("redis://user@localhost", "user:password@"),
        ("redis://localhost/zero", "0 to 255"),
        ("redis://localhost/256", "0 to 255"),
        ("redis://localhost/0/1", "0 to 255"),
        ("redis://:pa#ss@localhost", "%23"),
        ("redis://:%ff@localhost", "password of the Redis URL is not UTF-8"),
        ("redis://localhost?namspace=a", "namespace, timeout, connect_timeout, restart_grace"),
        ("redis://localhost?namespace=", "1 to 128 bytes"),
        ("redis://localhost?timeout=fast", "500ms"),
        ("redis://localhost?timeout=5", "500ms"),
        ("redis://localhost?timeout=0s", "from 1ms to 1h"),
        ("redis://localhost?connect_timeout=2h", "from 1ms to 1h"),
        ("redis://localhost?restart_grace=2h", "up to 1h"),
        ("redis://localhost?restart_grace=-1s", "up to 1h"),
        ("redis://localhost?timeout=1s&timeout=1s", "the option timeout twice"),
        ("rediss://localhost?cert=c.pem&key=k.pem&cert=c.pem", "the option cert twice"),
    ];
    for (url, remedy) in cases {
        let message = RedisConfig::from_url(url).expect_err(url).to_string();
        assert!(message.contains(remedy), "{url}: {message}");
    }
}

#[test]
fn pairs_of_several_address_maps_add_up() {
    let (first, second) = ("10.0.0.5:6379=localhost:1", "10.0.0.6:6379=localhost:2");
    let together = RedisConfig::from_url(&format!("redis-cluster://one?address_map={first},{second}")).unwrap();
    let apart = RedisConfig::from_url(&format!("redis-cluster://one?address_map={first}&address_map={second}"));
    assert_eq!(apart, Ok(together));
}

#[test]
fn unknown_option_is_named() {
    let error = RedisConfig::from_url("redis://localhost?namspace=a").unwrap_err();
    assert!(matches!(error, ConfigError::UnknownOption { option, .. } if option == "namspace"));
}

#[test]
fn secrets_are_never_shown() {
    let config = RedisConfig::from_url("redis://sam:secret@localhost/1").unwrap();
    for shown in [format!("{config:?}"), config.address()] {
        assert!(!shown.contains("secret") && !shown.contains("sam"), "{shown}");
    }
    for url in ["redis://sam:secret@localhost/x", "http://sam:secret@localhost", "redis://sam:secret@local host"] {
        let message = RedisConfig::from_url(url).unwrap_err().to_string();
        assert!(!message.contains("secret"), "{message}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_the_feature_tls_the_error_names_it() {
    assert_eq!(RedisConfig::from_url("rediss://localhost"), Err(ConfigError::TlsOff));
}
