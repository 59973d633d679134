//! Connections: their number, and few round trips until the first request.

use std::time::Duration;

use futures_util::future::join_all;
use rlock_core::{Acquired, Backend as _, IfBusy, Share};
use rlock_postgres::{ConnectError, PostgresBackend, PostgresBaseline};
use rlock_testkit::faults::Proxy;
use rlock_testkit::servers::PgBouncer;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Server, claim, listener_in_front_of, release};

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rlock'";

#[tokio::test]
async fn connecting_takes_one_connection_and_four_round_trips() {
    let server = Server::start().await;
    let proxy = Proxy::in_front_of(server.0.url());
    let client = PostgresBackend::connect(server.config_of(proxy.url())).await.unwrap();
    // Whether the server has TLS, the login, the check of the tables, and the settings.
    let round_trips = proxy.round_trips();
    assert!(round_trips <= 4, "{round_trips} round trips");
    assert_eq!(server.number(SESSIONS), 1);
    drop(client);
}

/// A program that takes one lock, such as `rlock run`, needs these beside those of connecting.
#[tokio::test]
async fn the_first_lock_takes_three_round_trips() {
    let server = Server::start().await;
    let proxy = Proxy::in_front_of(server.0.url());
    let client = PostgresBackend::connect(server.config_of(proxy.url())).await.unwrap();
    let connecting = proxy.round_trips();
    let answer = client.acquire(&[claim("x", 1, Share::EXCLUSIVE, IfBusy::Refuse)]).await.remove(0);
    assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
    release(&client, "x", 1).await;
    // The claim also prepares the statement of all requests.
    let round_trips = proxy.round_trips() - connecting;
    assert!(round_trips <= 3, "{round_trips} round trips");
}

/// The procedure for free resources undoes a call with another operation. Later calls go to the other procedure at once.
#[tokio::test]
async fn call_that_meets_others_is_repeated_once() {
    let server = Server::start().await;
    let holder = server.client().await;
    let queued = |name, id| claim(name, id, Share::EXCLUSIVE, IfBusy::Queue);
    assert!(matches!(holder.acquire(&[queued("a", 1)]).await[0], Ok(Acquired::Held(_))));
    let proxy = Proxy::in_front_of(server.0.url());
    let client = PostgresBackend::connect(server.config_of(proxy.url())).await.unwrap();
    let before = proxy.round_trips();
    let answers = client.acquire(&[queued("b", 2), queued("a", 3)]).await;
    assert!(matches!(answers[..], [Ok(Acquired::Held(_)), Ok(Acquired::Queued(_))]), "{answers:?}");
    assert_eq!(proxy.round_trips() - before, 4, "each statement is prepared, and run once");
    let before = proxy.round_trips();
    assert!(matches!(client.acquire(&[queued("a", 4)]).await[0], Ok(Acquired::Queued(_))));
    assert_eq!(proxy.round_trips() - before, 1);
}

#[tokio::test]
async fn waiters_need_one_connection() {
    let server = Server::start().await;
    let (holder, waiter) = (server.client().await, server.client().await);
    let queued = |id| claim("x", id, Share::EXCLUSIVE, IfBusy::Queue);
    assert!(matches!(holder.acquire(&[queued(1)]).await[0], Ok(Acquired::Held(_))));
    assert!(matches!(waiter.acquire(&[queued(2)]).await[0], Ok(Acquired::Queued(_))));
    release(&holder, "x", 1).await;
    assert_eq!(server.number(SESSIONS), 2);
}

/// The server refuses connections above its limit, which a connection for each request would exceed.
#[tokio::test]
async fn concurrent_requests_share_the_connections() {
    let server = Server::start_with(&["-c", "fsync=off", "-c", "max_connections=10"]).await;
    let client = PostgresBackend::connect(server.config().connections(3).unwrap()).await.unwrap();
    let claims: Vec<_> =
        (0..100).map(|id| [claim(&format!("name {id}"), id, Share::EXCLUSIVE, IfBusy::Refuse)]).collect();
    let answers = join_all(claims.iter().map(|claims| client.acquire(claims))).await;
    assert!(answers.iter().any(|answers| matches!(answers[0], Ok(Acquired::Held(_)))), "{answers:?}");
    // On a busy machine some requests may time out.
    let errors = answers.iter().filter_map(|answers| answers[0].as_ref().err());
    let refused: Vec<_> = errors.filter(|error| error.to_string().contains("max_connections")).collect();
    assert!(refused.is_empty(), "{} requests found no connection: {}", refused.len(), refused[0]);
}

/// Connecting reads a table that an administrator has locked.
#[tokio::test]
async fn locked_tables_end_connecting_at_its_limit() {
    let server = Server::start().await;
    let mut admin = PgConnection::connect(server.0.url()).await.unwrap();
    admin.execute("BEGIN; LOCK TABLE rlock.state").await.unwrap();
    let config = server.config().connect_timeout(Duration::from_millis(500)).unwrap();
    let late = PostgresBackend::connect(config).await.unwrap_err();
    assert!(matches!(late, ConnectError::Unreachable(_)), "{late}");
    admin.execute("COMMIT").await.unwrap();
    server.client().await;
}

/// The URL of a relay that passes its first connection on to a server, and answers no other.
async fn answering_once(server: &str) -> String {
    let (listener, url, addresses) = listener_in_front_of(server).await;
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(&addresses[..]).await.unwrap();
        let _closed = copy_bidirectional(&mut client, &mut server).await;
    });
    url
}

/// The first connection of a baseline is for requests, and the second one only listens.
#[tokio::test]
async fn silent_server_ends_a_baseline_at_its_limit() {
    let server = Server::start().await;
    let config = server.config_of(&answering_once(server.0.url()).await);
    let config = config.connect_timeout(Duration::from_secs(5)).unwrap();
    let connected = timeout(Duration::from_secs(30), PostgresBaseline::connect(config)).await;
    let late = connected.expect("the limit is 5 s").unwrap_err();
    assert!(matches!(late, ConnectError::Unreachable(_)), "{late}");
    assert!(late.to_string().contains("no connection within 5s"), "{late}");
}

/// A server, and a client with two connections. Each request waits for a replica that does not exist, and its session
/// with it.
async fn without_replica() -> (Server, PostgresBackend) {
    let server = Server::start_with(&["-c", "fsync=on"]).await;
    let client = PostgresBackend::connect(server.config().connections(2).unwrap()).await.unwrap();
    server.query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'; ");
    server.query("SELECT pg_reload_conf()");
    server.wait_for("SHOW synchronous_standby_names", "nobody").await;
    (server, client)
}

/// Waits until the server has ended all sessions but the last of each connection.
async fn until_few(server: &Server) {
    server.wait_for(&SESSIONS.replace("count(*)", "count(*) <= 3"), "t").await;
}

#[tokio::test]
async fn late_answers_leave_no_sessions_behind() {
    let (server, client) = without_replica().await;
    let claims = async |first: u128| {
        for id in 0..3 {
            let name = format!("name {first} {id}");
            let answer = client.acquire(&[claim(&name, id, Share::EXCLUSIVE, IfBusy::Refuse)]).await.remove(0);
            assert!(answer.is_err(), "{answer:?}");
        }
    };
    tokio::join!(claims(0), claims(1), claims(2));
    until_few(&server).await;
}

/// The callers leave before their requests time out.
#[tokio::test]
async fn dropped_requests_leave_no_sessions_behind() {
    let (server, client) = without_replica().await;
    let claims = async |first: u128| {
        for id in 0..5 {
            let name = format!("name {first} {id}");
            let claims = [claim(&name, id, Share::EXCLUSIVE, IfBusy::Refuse)];
            let answer = timeout(Duration::from_millis(800), client.acquire(&claims)).await;
            assert!(!answer.is_ok_and(|answers| answers[0].is_ok()), "a claim is granted");
        }
    };
    tokio::join!(claims(0), claims(1));
    until_few(&server).await;
}

#[tokio::test]
async fn a_limit_of_connections_is_named() {
    let server = Server::start().await;
    server.query("CREATE ROLE jobs LOGIN CONNECTION LIMIT 0; CREATE ROLE app LOGIN");
    server.query("CREATE DATABASE jobs CONNECTION LIMIT 0");
    let jobs = server.0.url().replace("//postgres@", "//jobs@");
    let app = server.0.url().replace("//postgres@", "//app@").replace("/postgres", "/jobs");
    let is_named = async |url: &str, limited: &str, remedy: &str| {
        // The last fifth of this time is for the reason.
        let config = server.config_of(url).connect_timeout(Duration::from_secs(10)).unwrap();
        let refused = PostgresBackend::connect(config).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Unreachable(_)), "{refused}");
        let message = refused.to_string();
        assert!(message.contains(limited) && message.contains(remedy), "{message}");
    };
    tokio::join!(is_named(&jobs, "role \"jobs\"", "ALTER ROLE"), is_named(&app, "database \"jobs\"", "ALTER DATABASE"));
}

#[tokio::test]
async fn poolers_are_found_out_with_one_connection() {
    let server = Server::start().await;
    let pooler = PgBouncer::start(server.0.url());
    let config = server.config_of(pooler.url()).connections(1).unwrap();
    let (one, other) =
        (PostgresBackend::connect(config.clone()).await.unwrap(), PostgresBackend::connect(config).await.unwrap());
    for id in 0..20 {
        let client = if id % 2 == 0 { &one } else { &other };
        let answer = client.acquire(&[claim("x", id, Share::EXCLUSIVE, IfBusy::Refuse)]).await.remove(0);
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
        release(client, "x", id).await;
    }
}
