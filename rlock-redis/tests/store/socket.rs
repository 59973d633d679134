//! Servers on a socket of this host.

use rlock_core::{Client, SimpleLock};
use rlock_redis::{ConnectError, RedisBackend, RedisConfig};
use rlock_testkit::wait::eventually;

use crate::support::{Program, SOON};

#[tokio::test]
async fn locks_are_had_over_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let url = format!("redis+unix://{socket}?restart_grace=0s");
    let missing = RedisBackend::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap_err();
    assert!(matches!(missing, ConnectError::Unreachable(_)), "{missing:?}");
    assert!(missing.to_string().contains("no such socket"), "{missing}");

    let settings: [&[&str]; 4] =
        [&["--port", "0"], &["--unixsocket", &socket], &["--requirepass", "a b"], &["--save", ""]];
    let _program = Program::start(&settings);
    let connect = |options: &str| {
        let config = RedisConfig::from_url(&format!("{url}{options}")).unwrap();
        RedisBackend::connect(config)
    };
    eventually(SOON, "the server", async || connect("&pass=a%20b").await.is_ok()).await;
    let client = Client::builder().connect(connect("&pass=a%20b&db=3")).await.unwrap();
    SimpleLock::new("a", &client).unwrap().lock().await.unwrap().unlock().await.unwrap();
    let refused = connect("").await.unwrap_err();
    assert!(refused.to_string().contains("password"), "{refused}");
}
