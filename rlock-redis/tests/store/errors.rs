//! Errors: their kinds and texts.

use std::slice;
use std::time::{Duration, Instant};

use crate::support::{SOON, Server, claim, client_at, free_port, key, lock, ttl};
use futures_util::{FutureExt as _, StreamExt as _};
use rlock_core::{Acquired, Backend as _, BackendError, Claim, Event, Extended, Extension, IfBusy, Released, Share};
use rlock_redis::{ConnectError, RedisBackend, RedisConfig};
use rlock_testkit::wait::eventually;

async fn connect(url: &str) -> Result<RedisBackend, ConnectError> {
    RedisBackend::connect(RedisConfig::from_url(url).unwrap()).await
}

#[tokio::test]
async fn nothing_listens() {
    let port = free_port();
    let error = connect(&format!("redis://:secret@127.0.0.1:{port}")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
    assert_eq!(
        error.to_string(),
        format!("connect on redis://127.0.0.1:{port}/0 failed: the connection was refused: is the server running?")
    );
    assert!(!format!("{error:?}").contains("secret"));
}

#[tokio::test]
async fn silent_server_is_unreachable() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    let error = connect(&format!("redis://{}?connect_timeout=200ms", silent.local_addr().unwrap())).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "that is the default timeout");
}

#[tokio::test]
async fn an_unknown_host() {
    let error = connect("redis://nowhere.invalid").await.unwrap_err().to_string();
    assert!(error.contains("check the host"), "{error}");
}

#[tokio::test]
async fn a_wrong_password() {
    let server = Server::start_with_password("secret");
    for wrong in [":wrong@", "sam:secret@", ""] {
        let error = connect(&format!("redis://{wrong}127.0.0.1:{}", server.port())).await.unwrap_err();
        assert!(matches!(error, ConnectError::Rejected(_)), "{error}");
        assert!(error.to_string().contains("password"), "{error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
    connect(server.url()).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_there() {
    let server = Server::start();
    let error = connect(&format!("{}/200", server.url())).await.unwrap_err();
    assert!(matches!(error, ConnectError::Rejected(_)), "{error}");
    assert!(error.to_string().contains("database number"), "{error}");
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_where_the_server_speaks_none() {
    let server = Server::start();
    let error = connect(&format!("rediss://localhost:{}", server.port())).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[tokio::test]
async fn scripts_that_the_server_lost_are_loaded_again() {
    let server = Server::start();
    let client = server.client().await;
    server.run(&["SCRIPT", "FLUSH"]);
    let claims: Vec<_> =
        (0..600).map(|i| claim(&format!("r{i}"), i, Share::EXCLUSIVE, 30_000, IfBusy::Refuse)).collect();
    for answer in client.acquire(&claims).await {
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn foreign_key_fails_only_its_entry() {
    let server = Server::start();
    let client = server.client_in("n").await;
    server.run(&["SET", "rlock:2:{n:63}:b", "x"]);
    let claims = ["a", "b", "c"].map(|name| claim(name, 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse));
    let answers = client.acquire(&claims).await;
    assert!(matches!(answers[0], Ok(Acquired::Held(_))), "{:?}", answers[0]);
    assert!(matches!(answers[2], Ok(Acquired::Held(_))), "{:?}", answers[2]);
    let Err(BackendError::Rejected(failure)) = &answers[1] else { panic!("{:?}", answers[1]) };
    assert!(failure.to_string().contains("another program uses the key"), "{failure}");
    assert!(matches!(client.inspect(&claims[1].key.resource).await, Err(BackendError::Rejected(_))));

    let page = client.list(&rlock_core::ListFilter { limit: 100, ..Default::default() }).await.unwrap();
    assert_eq!(page.entries.len(), 2, "{page:?}");
}

#[tokio::test]
async fn foreign_cursor_is_rejected() {
    let server = Server::start();
    let client = server.client().await;
    let after = Some(rlock_core::Cursor("a name".into()));
    let answer = client.list(&rlock_core::ListFilter { after, limit: 1, ..Default::default() }).await;
    assert!(matches!(answer, Err(BackendError::Rejected(_))), "{answer:?}");
}

#[tokio::test]
async fn full_memory_refuses_claims_and_nothing_else() {
    let server = Server::start();
    let client = server.client().await;
    let held = claim("held", 1, Share::EXCLUSIVE, 30_000, IfBusy::Queue);
    let queued = claim("held", 2, Share::EXCLUSIVE, 30_000, IfBusy::Queue);
    assert!(matches!(client.acquire(slice::from_ref(&held)).await[0], Ok(Acquired::Held(_))));
    assert!(matches!(client.acquire(slice::from_ref(&queued)).await[0], Ok(Acquired::Queued(_))));
    let alone = claim("alone", 4, Share::EXCLUSIVE, 30_000, IfBusy::Queue);
    assert!(matches!(client.acquire(slice::from_ref(&alone)).await[0], Ok(Acquired::Held(_))));
    server.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    server.run(&["CONFIG", "SET", "maxmemory", "1"]);

    let refused = &client.acquire(&[claim("new", 3, Share::EXCLUSIVE, 30_000, IfBusy::Queue)]).await[0];
    let Err(BackendError::NotApplied(failure)) = refused else { panic!("{refused:?}") };
    assert!(failure.to_string().contains("out of memory"), "{failure}");
    for key in [&held.key, &alone.key] {
        let extension = Extension { key: key.clone(), ttl: ttl(40_000) };
        let extended = client.extend(&[extension]).await.remove(0);
        assert!(matches!(extended, Ok(Extended::Held(_))), "{extended:?}");
    }
    for key in [held.key, alone.key] {
        assert!(matches!(client.release(&[key.into()]).await[0], Ok(Released::Released)));
    }

    server.run(&["CONFIG", "SET", "maxmemory", "0"]);
    let extension = Extension { key: queued.key, ttl: ttl(30_000) };
    assert!(matches!(client.extend(&[extension]).await[0], Ok(Extended::Held(_))));
}

/// The server could not save, and refuses writes until two thirds of the TTL have passed.
#[tokio::test]
async fn failed_save_loses_no_lock() {
    const TTL: Duration = Duration::from_secs(6);
    let server = Server::start_without_disk();
    let other = server.client_in("n").await;
    let holder = client_at(&format!("{}?restart_grace=0s", server.url())).await;
    let guard = lock(&holder, "job", TTL).await;
    server.run(&["CONFIG", "SET", "save", "3600 1"]);
    guard.extend(TTL).await.unwrap();
    let extended = Instant::now();
    server.run(&["BGSAVE"]);
    let has_failed =
        async || server.run(&["INFO", "persistence"]).iter().any(|line| line == "rdb_last_bgsave_status:err");
    eventually(SOON, "the end of the save", has_failed).await;

    let refused = other.acquire(&[claim("a", 1, Share::EXCLUSIVE, 30_000, IfBusy::Queue)]).await.remove(0);
    let Err(BackendError::NotApplied(failure)) = refused else { panic!("{refused:?}") };
    assert!(failure.to_string().contains("it cannot save to its disk"), "{failure}");
    tokio::time::sleep((TTL * 2 / 3).saturating_sub(extended.elapsed())).await;
    assert!(guard.is_held(), "{guard:?}");
    server.run(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]);
    guard.extend(TTL).await.unwrap();
    guard.unlock().await.unwrap();
}

#[tokio::test]
async fn replica_applies_nothing_and_the_client_leaves_it() {
    let server = Server::start();
    let client = server.client().await;
    let request = claim("a", 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse);
    server.run(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    let refused = client.acquire(slice::from_ref(&request)).await.remove(0);
    let Err(BackendError::NotApplied(failure)) = refused else { panic!("{refused:?}") };
    assert!(failure.to_string().contains("let the URL name the primary"), "{failure}");

    server.run(&["REPLICAOF", "NO", "ONE"]);
    granted_in_the_end(&client, &request).await;
}

#[tokio::test]
async fn replica_never_reports_a_lock_as_gone() {
    let server = Server::start();
    let clients = [server.client().await, server.client().await];
    server.run(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    // The first answer makes a client leave the replica.
    let extension = Extension { key: key("a", 1), ttl: ttl(30_000) };
    let extended = clients[0].extend(&[extension]).await.remove(0);
    assert!(matches!(extended, Err(BackendError::NotApplied(_))), "{extended:?}");
    let released = clients[1].release(&[key("a", 1).into()]).await.remove(0);
    assert!(matches!(released, Err(BackendError::NotApplied(_))), "{released:?}");
}

/// Each new connection makes the client extend all its leases, so a connection to a replica must not count as one.
#[tokio::test]
async fn connections_to_a_replica_send_no_resync() {
    let server = Server::start();
    let client = server.client().await;
    let mut events = client.events();
    let handshakes = || {
        let stats = server.run(&["INFO", "commandstats"]);
        let calls = stats.iter().find_map(|line| line.strip_prefix("cmdstat_hello:calls=")?.split(',').next());
        calls.map_or(0, |calls| calls.parse::<u64>().unwrap())
    };
    server.run(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    let request = claim("a", 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse);
    let refused = client.acquire(slice::from_ref(&request)).await.remove(0);
    assert!(matches!(refused, Err(BackendError::NotApplied(_))), "{refused:?}");
    let before = handshakes();
    // An attempt to connect sends two of them.
    eventually(SOON, "attempts to connect", async || handshakes() >= before + 8).await;
    assert!(events.next().now_or_never().is_none(), "the client went back to the replica");

    server.run(&["REPLICAOF", "NO", "ONE"]);
    granted_in_the_end(&client, &request).await;
    assert_eq!(events.next().now_or_never(), Some(Some(Event::Resync)));
}

#[tokio::test]
async fn replica_is_refused_at_connect_with_the_remedy() {
    let server = Server::start();
    server.run(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    for _ in 0..5 {
        let error = connect(server.url()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
        assert!(error.to_string().contains("let the URL name the primary"), "{error}");
    }
}

#[tokio::test]
async fn password_has_any_characters() {
    let password = "a b\tc\"d'e%@/:ü";
    let server = Server::start_with_password(password);
    let encoded: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
    connect(&format!("redis://:{encoded}@127.0.0.1:{}", server.port())).await.unwrap();
}

#[tokio::test]
async fn frozen_server_times_requests_out_until_it_thaws() {
    let server = Server::start();
    let options = "timeout=300ms&connect_timeout=300ms&restart_grace=0s";
    let config = RedisConfig::from_url(&format!("{}?{options}", server.url())).unwrap();
    let client = RedisBackend::connect(config).await.unwrap();
    let mut events = client.events();
    let request = claim("a", 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse);
    server.run(&["CLIENT", "PAUSE", "1000", "ALL"]);

    let begun = Instant::now();
    let answer = client.acquire(slice::from_ref(&request)).await.remove(0);
    assert!(matches!(answer, Err(BackendError::Unknown(_))), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());

    let resynced = tokio::time::timeout(SOON, events.next()).await;
    assert_eq!(resynced.unwrap(), Some(Event::Resync));
    granted_in_the_end(&client, &request).await;
}

#[tokio::test]
async fn requests_fail_at_once_without_a_server() {
    let server = Server::start();
    let client = server.client().await;
    server.kill().await;
    let request = claim("a", 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse);
    let until = Instant::now() + SOON;
    loop {
        let begun = Instant::now();
        let answer = client.acquire(slice::from_ref(&request)).await.remove(0);
        assert!(begun.elapsed() < Duration::from_secs(5), "{answer:?} after the timeout: {:?}", begun.elapsed());
        match answer {
            Err(BackendError::NotApplied(_)) => break,
            Err(BackendError::Unknown(_)) if Instant::now() < until => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn cut_connection_reopens_and_events_flow_again() {
    let server = Server::start();
    let client = server.client().await;
    let mut events = client.events();
    let (first, second) = (key("a", 1), key("a", 2));
    let request = |id| claim("a", id, Share::EXCLUSIVE, 30_000, IfBusy::Queue);
    assert!(matches!(
        client.acquire(&[request(1), request(2)]).await[..],
        [Ok(Acquired::Held(_)), Ok(Acquired::Queued(_))]
    ));

    server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(tokio::time::timeout(SOON, events.next()).await.unwrap(), Some(Event::Resync));
    assert!(matches!(client.release(&[first.into()]).await[0], Ok(Released::Released)));
    let event = tokio::time::timeout(SOON, events.next()).await.unwrap();
    assert!(matches!(event, Some(Event::Granted { id, .. }) if id == second.id), "{event:?}");
}

#[tokio::test]
async fn dropping_the_backend_closes_its_connections() {
    let server = Server::start();
    let client = server.client().await;
    let connections = || server.run(&["CLIENT", "LIST"]).iter().filter(|line| line.contains("addr=")).count();
    assert_eq!(connections(), 3, "two of the backend's, and the one that asks");
    drop(client);
    let until = Instant::now() + SOON;
    while connections() > 1 {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the server grants `request`, through transient failures.
async fn granted_in_the_end(client: &RedisBackend, request: &Claim) {
    let until = Instant::now() + SOON;
    loop {
        match client.acquire(slice::from_ref(request)).await.remove(0) {
            Ok(Acquired::Held(_)) => break,
            Err(error) if error.is_transient() && Instant::now() < until => {}
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
