//! Servers that support only RESP2, as behind some proxies.

use std::fs;
use std::slice;

use futures_util::{FutureExt as _, StreamExt as _};
use rlock_core::{Acquired, Backend as _, BackendError, Event, IfBusy, Released, Share};
use rlock_redis::{ConnectError, RedisBackend, RedisConfig};
use rlock_testkit::wait::{eventually, within};

use crate::support::{Program, SOON, Server, claim, free_port, serve_all_slots};

async fn connect(url: &str) -> Result<RedisBackend, ConnectError> {
    RedisBackend::connect(RedisConfig::from_url(url).unwrap()).await
}

#[tokio::test]
async fn server_serves_and_pushes() {
    let server = Server::start_without("HELLO");
    is_handed_over(&server.client_in("n").await, &server.client_in("n").await).await;
}

#[tokio::test]
async fn cluster_serves_and_pushes() {
    let node = Server::start_cluster_node_with(&["--rename-command", "HELLO", ""]);
    serve_all_slots(node.resp()).await;
    let url = format!("{}&restart_grace=0s", node.cluster_url());
    is_handed_over(&connect(&url).await.unwrap(), &connect(&url).await.unwrap()).await;
}

#[tokio::test]
async fn server_under_a_sentinel_serves_and_pushes() {
    let server = Server::start_without("HELLO");
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port().to_string());
    let file = folder.path().join("sentinel.conf").display().to_string();
    fs::write(&file, format!("sentinel monitor locks 127.0.0.1 {} 1\n", server.port())).unwrap();
    let directory = folder.path().display().to_string();
    let settings: [&[&str]; 3] = [&[&file, "--sentinel"], &["--port", &port], &["--dir", &directory]];
    let _sentinel = Program::start(&settings);
    let url = format!("redis-sentinel://127.0.0.1:{port}/locks?restart_grace=0s");
    eventually(SOON, "the sentinel", async || connect(&url).await.is_ok()).await;
    is_handed_over(&connect(&url).await.unwrap(), &connect(&url).await.unwrap()).await;
}

async fn is_handed_over(holder: &RedisBackend, waiter: &RedisBackend) {
    let mut events = waiter.events();
    let [held, queued] = [1, 2].map(|id| claim("a", id, Share::EXCLUSIVE, 30_000, IfBusy::Queue));
    assert!(matches!(holder.acquire(slice::from_ref(&held)).await[0], Ok(Acquired::Held(_))));
    assert!(matches!(waiter.acquire(slice::from_ref(&queued)).await[0], Ok(Acquired::Queued(_))));
    assert!(matches!(holder.release(&[held.key.into()]).await[0], Ok(Released::Released)));
    let event = within(SOON, "the push", events.next()).await;
    assert!(matches!(event, Some(Event::Granted { id, .. }) if id == queued.key.id), "{event:?}");
}

/// With a grace, the client also reads the role when it asks for the uptime.
#[tokio::test]
async fn replica_is_refused_at_connect_with_the_remedy() {
    let server = Server::start_without("HELLO");
    server.run(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    for options in ["", "?restart_grace=0s"] {
        let error = connect(&format!("{}{options}", server.url())).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
        assert!(error.to_string().contains("a replica, which grants nothing: let the URL name the primary"), "{error}");
    }
}

/// Each new connection makes the client extend all its leases, so a connection to a replica must not count as one.
#[tokio::test]
async fn connections_to_a_replica_send_no_resync() {
    let server = Server::start_without("HELLO");
    let client = server.client().await;
    let mut events = client.events();
    // A new connection asks for its id.
    let connections = || {
        let stats = server.run(&["INFO", "commandstats"]);
        let calls = stats.iter().find_map(|line| line.strip_prefix("cmdstat_client")?.split_once("calls="));
        calls.map_or(0, |(_, calls)| calls.split(',').next().unwrap_or_default().parse::<u64>().unwrap())
    };
    server.run(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    let request = claim("a", 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse);
    let refused = client.acquire(slice::from_ref(&request)).await.remove(0);
    assert!(matches!(refused, Err(BackendError::NotApplied(_))), "{refused:?}");
    let before = connections();
    eventually(SOON, "attempts to connect", async || connections() >= before + 4).await;
    assert!(events.next().now_or_never().is_none(), "the client went back to the replica");

    server.run(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(within(SOON, "the connection", events.next()).await, Some(Event::Resync));
    assert!(matches!(client.acquire(&[request]).await[0], Ok(Acquired::Held(_))));
}
