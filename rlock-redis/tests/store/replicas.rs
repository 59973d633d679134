//! Grants that replicas have to confirm.

use std::net::TcpListener;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use rlock_core::{Acquired, Backend as _, BackendError, Event, Extended, Extension, IfBusy, Released, Share};
use rlock_redis::{RedisBackend, RedisConfig};
use rlock_testkit::faults::{Control as _, Proxy};
use rlock_testkit::servers::{Redis, Reply};
use rlock_testkit::wait::{eventually, within};

use crate::support::{SOON, claim, demote_and_promote, key, scripts_run, ttl};

/// A primary with a replica that follows it.
async fn pair() -> (Redis, Redis) {
    let (primary, replica) = (Redis::start_with(&[]), Redis::start_with(&[]));
    let (host, port) = primary.address_for_servers();
    primary.resp().command(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    replica.resp().command(&["REPLICAOF", &host, &port.to_string()]);
    let mut resp = primary.resp();
    // After a full synchronization a replica confirms once, and then not for up to a second.
    let follows = async || {
        (0..3).all(|_| {
            resp.command(&["SET", "probe", "", "PX", "1000"]);
            resp.command(&["WAIT", "1", "100"]) == Reply::Int(1)
        })
    };
    eventually(SOON, "the replica", follows).await;
    (primary, replica)
}

/// A client whose grants a replica has to confirm within this time.
async fn connect(url: &str, wait_timeout: &str) -> RedisBackend {
    let url = format!("{url}?restart_grace=0s&wait_replicas=1&wait_timeout={wait_timeout}");
    RedisBackend::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap()
}

/// For replicas that confirm, on a busy machine as well.
const PATIENT: &str = "1m";
/// For replicas that do not confirm.
const IMPATIENT: &str = "300ms";

fn extension(id: u128) -> Extension {
    Extension { key: key("a", id), ttl: ttl(60_000) }
}

#[tokio::test]
async fn unconfirmed_grant_is_given_back() {
    let (primary, replica) = pair().await;
    let (patient, impatient) = (connect(primary.url(), PATIENT).await, connect(primary.url(), IMPATIENT).await);
    let request = |id| claim("a", id, Share::EXCLUSIVE, 600_000, IfBusy::Refuse);
    let granted = patient.acquire(&[request(1)]).await.remove(0);
    assert!(matches!(granted, Ok(Acquired::Held(_))), "{granted:?}");
    assert!(matches!(patient.release(&[key("a", 1).into()]).await[0], Ok(Released::Released)));

    replica.pause().await;
    let Err(BackendError::NotApplied(failure)) = impatient.acquire(&[request(2)]).await.remove(0) else {
        panic!("granted")
    };
    assert!(failure.to_string().contains("0 of 1 replicas confirmed the grant within 300ms"), "{failure}");
    assert!(impatient.inspect(&key("a", 2).resource).await.unwrap().is_free());
    replica.resume().await;
    let granted = patient.acquire(&[request(3)]).await.remove(0);
    assert!(matches!(granted, Ok(Acquired::Held(_))), "{granted:?}");
}

/// The release of the unconfirmed grant arrives after core has claimed again, and replicas have confirmed that.
#[tokio::test]
async fn late_return_ends_no_confirmed_lock() {
    let (primary, replica) = pair().await;
    let proxy = Proxy::in_front_of(primary.url());
    let url = format!("{}?restart_grace=0s&wait_replicas=1&wait_timeout=1m&timeout=1m", proxy.url());
    let client = RedisBackend::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap();
    let claims = [claim("a", 1, Share::EXCLUSIVE, 600_000, IfBusy::Refuse)];
    replica.pause().await;
    let strand = async {
        let blocked = waiting_connection(&primary).await;
        proxy.strand();
        primary.resp().command(&["CLIENT", "UNBLOCK", &blocked]); // as at the end of wait_timeout
    };
    let (answers, ()) = tokio::join!(client.acquire(&claims), strand);
    assert!(matches!(answers[0], Err(BackendError::Unknown(_))), "{answers:?}");

    replica.resume().await;
    let is_held = async || matches!(client.acquire(&claims).await[0], Ok(Acquired::Held(_)));
    eventually(SOON, "a confirmed grant", is_held).await;
    let scripts = scripts_run(primary.resp());
    proxy.heal();
    eventually(SOON, "the late release", async || scripts_run(primary.resp()) > scripts).await;
    let extended = client.extend(&[extension(1)]).await.remove(0);
    assert!(matches!(extended, Ok(Extended::Held(_))), "the late release ended the lease: {extended:?}");
}

/// The second of two grants waits for its turn to ask the replicas. Meanwhile another server takes the place of the
/// primary, and has a replica that would confirm.
#[tokio::test]
async fn replicas_of_another_server_confirm_nothing() {
    let ((primary, replica), (other, _confirms)) = (pair().await, pair().await);
    let proxy = Proxy::in_front_of(primary.url());
    let url = format!("{}?restart_grace=0s&wait_replicas=1&wait_timeout=1m&timeout=1m", proxy.url());
    let client = RedisBackend::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap();
    let [first, second] = ["a", "b"].map(|name| [claim(name, 1, Share::EXCLUSIVE, 600_000, IfBusy::Refuse)]);
    replica.pause().await;
    let acquire_second = async {
        waiting_connection(&primary).await;
        client.acquire(&second).await
    };
    let replace = async {
        // The client has the answer to the claim before that to an inspection which shows the lease.
        let is_granted = async || !client.inspect(&second[0].key.resource).await.unwrap().is_free();
        eventually(SOON, "the second grant", is_granted).await;
        proxy.lead_to(other.url());
    };
    let (first, second, ()) = tokio::join!(client.acquire(&first), acquire_second, replace);
    for answers in [first, second] {
        assert!(matches!(answers[0], Err(BackendError::Unknown(_))), "{answers:?}");
    }
}

/// The server was demoted and promoted again since the grant, and has lost it. Only then its replicas are asked.
#[tokio::test]
async fn replicas_confirm_no_grant_from_before_a_promotion() {
    let ((primary, _follows), empty) = (pair().await, Redis::start_with(&["--repl-diskless-sync-delay", "0"]));
    let proxy = Proxy::in_front_of(primary.url());
    let url = format!("{}?restart_grace=0s&wait_replicas=1&wait_timeout=1m&timeout=1m", proxy.url());
    let client = RedisBackend::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap();
    let [first, second] = ["a", "b"].map(|name| [claim(name, 1, Share::EXCLUSIVE, 600_000, IfBusy::Refuse)]);
    let granted = client.acquire(&first).await.remove(0);
    assert!(matches!(granted, Ok(Acquired::Held(_))), "{granted:?}");

    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap();
    nowhere.set_nonblocking(true).unwrap();
    proxy.lead_new_to(&format!("redis://{}", nowhere.local_addr().unwrap()));
    let asking = asking_connection(&primary).expect("the connection stays open");
    primary.resp().command(&["CLIENT", "KILL", "ID", &asking]);
    eventually(SOON, "the next connection", async || nowhere.accept().is_ok()).await;
    drop(nowhere);

    let replace = async {
        let is_granted = async || !client.inspect(&second[0].key.resource).await.unwrap().is_free();
        eventually(SOON, "the second grant", is_granted).await;
        demote_and_promote(&primary, &empty).await;
        proxy.lead_new_to(primary.url());
    };
    let (answers, ()) = tokio::join!(client.acquire(&second), replace);
    assert!(matches!(answers[0], Err(BackendError::Unknown(_))), "the server has lost the grant: {answers:?}");
}

/// A proxy leads the connection that asks for replicas to another server, which has a replica. The other connection
/// stays where it is.
#[tokio::test]
async fn replicas_behind_a_new_connection_confirm_nothing() {
    let ((primary, _follows), (other, _confirms)) = (pair().await, pair().await);
    let proxy = Proxy::in_front_of(primary.url());
    let url = format!("{}?restart_grace=0s&wait_replicas=1&wait_timeout=1m&timeout=1m", proxy.url());
    let client = RedisBackend::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap();
    let [first, second] = ["a", "b"].map(|name| [claim(name, 1, Share::EXCLUSIVE, 600_000, IfBusy::Refuse)]);
    let granted = client.acquire(&first).await.remove(0);
    assert!(matches!(granted, Ok(Acquired::Held(_))), "{granted:?}");

    proxy.lead_new_to(other.url());
    let asking = asking_connection(&primary).expect("the connection stays open");
    primary.resp().command(&["CLIENT", "KILL", "ID", &asking]);
    let is_its = |client: &str| client.contains(" flags=N ") && !client.contains(" cmd=client");
    let has_moved = async || id_of(&other, is_its).is_some();
    eventually(SOON, "the new connection", has_moved).await;
    let granted = client.acquire(&second).await.remove(0);
    assert!(matches!(granted, Err(BackendError::Unknown(_))), "{granted:?}");

    let is_granted = async || match client.acquire(&second).await.remove(0) {
        Ok(Acquired::Held(_)) => true,
        Err(error) if error.is_transient() => false,
        answer => panic!("{answer:?}"),
    };
    eventually(SOON, "a grant of the other server", is_granted).await;
    assert_eq!(other.keys("*:b").len(), 1);
}

/// The connection with the grant ends while another server, to which a proxy leads the new ones, asks its replicas.
#[tokio::test]
async fn connection_to_the_new_server_is_kept() {
    let ((primary, _follows), (other, confirms)) = (pair().await, pair().await);
    let proxy = Proxy::in_front_of(primary.url());
    let url = format!("{}?restart_grace=0s&wait_replicas=1&wait_timeout=1m&timeout=1m", proxy.url());
    let client = RedisBackend::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap();
    let [first, second, third] =
        ["a", "b", "c"].map(|name| [claim(name, 1, Share::EXCLUSIVE, 600_000, IfBusy::Refuse)]);
    let granted = client.acquire(&first).await.remove(0);
    assert!(matches!(granted, Ok(Acquired::Held(_))), "{granted:?}");

    proxy.lead_new_to(other.url());
    let asking = asking_connection(&primary).expect("the connection stays open");
    primary.resp().command(&["CLIENT", "KILL", "ID", &asking]);
    let is_its = |client: &str| client.contains(" flags=N ") && !client.contains(" cmd=client");
    eventually(SOON, "the new connection", async || id_of(&other, is_its).is_some()).await;
    confirms.pause().await;
    let mut events = client.events();
    let replace = async {
        let asking = waiting_connection(&other).await;
        primary.resp().command(&["CLIENT", "KILL", "TYPE", "normal"]);
        assert_eq!(within(SOON, "the reconnect", events.next()).await, Some(Event::Resync));
        confirms.resume().await;
        asking
    };
    let (answers, asking) = tokio::join!(client.acquire(&second), replace);
    assert!(matches!(answers[0], Err(BackendError::Unknown(_))), "{answers:?}");

    let granted = client.acquire(&third).await.remove(0);
    assert!(matches!(granted, Ok(Acquired::Held(_))), "{granted:?}");
    assert_eq!(asking_connection(&other), Some(asking));
}

/// A demoted primary keeps the connection that asks for replicas, and its successor has the next connections.
#[tokio::test]
async fn replicas_of_the_successor_confirm() {
    let ((primary, _follows), (successor, _confirms)) = (pair().await, pair().await);
    let proxy = Proxy::in_front_of(primary.url());
    let client = connect(proxy.url(), PATIENT).await;
    let request = |name| [claim(name, 1, Share::EXCLUSIVE, 600_000, IfBusy::Refuse)];
    let granted = client.acquire(&request("a")).await.remove(0);
    assert!(matches!(granted, Ok(Acquired::Held(_))), "{granted:?}");

    proxy.lead_new_to(successor.url());
    let (host, port) = successor.address_for_servers();
    primary.resp().command(&["REPLICAOF", &host, &port.to_string()]);
    let is_granted = async || match client.acquire(&request("b")).await.remove(0) {
        Ok(Acquired::Held(_)) => true,
        Err(error) if error.is_transient() => false,
        answer => panic!("{answer:?}"),
    };
    eventually(SOON, "a grant of the successor", is_granted).await;
}

/// Waits until a connection waits for replicas, and returns its id.
async fn waiting_connection(primary: &Redis) -> String {
    let mut found = None;
    let waits = async || {
        found = id_of(primary, |client| client.contains(" flags=b ") && client.contains(" cmd=wait "));
        found.is_some()
    };
    eventually(SOON, "the wait for a replica", waits).await;
    found.expect("it was found")
}

/// The id of the idle connection that asks for replicas, and then for the identity of the server.
fn asking_connection(server: &Redis) -> Option<String> {
    id_of(server, |client| client.contains(" cmd=info "))
}

/// The id of a connection, by its line in the list of clients.
fn id_of(server: &Redis, is_it: impl Fn(&str) -> bool) -> Option<String> {
    let clients = server.resp().command(&["CLIENT", "LIST"]).to_string();
    let found = clients.lines().find(|client| is_it(client))?;
    Some(found.strip_prefix("id=")?.split(' ').next()?.to_owned())
}

/// Neither the extension of a held lease nor a release waits for replicas.
#[tokio::test]
async fn held_locks_do_without_replicas() {
    let (primary, replica) = pair().await;
    let client = connect(primary.url(), PATIENT).await;
    let request = claim("a", 1, Share::EXCLUSIVE, 600_000, IfBusy::Refuse);
    assert!(matches!(client.acquire(&[request]).await[0], Ok(Acquired::Held(_))));
    replica.kill().await;
    assert!(matches!(client.extend(&[extension(1)]).await[0], Ok(Extended::Held(_))));
    assert!(matches!(client.release(&[key("a", 1).into()]).await[0], Ok(Released::Released)));
}

#[tokio::test]
async fn waiter_is_granted_once_replicas_confirm() {
    let (primary, replica) = pair().await;
    let (holder, waiter) = (connect(primary.url(), PATIENT).await, connect(primary.url(), PATIENT).await);
    let next = connect(primary.url(), IMPATIENT).await;
    let mut events = waiter.events();
    let request = |id| claim("a", id, Share::EXCLUSIVE, 600_000, IfBusy::Queue);
    assert!(matches!(holder.acquire(&[request(1)]).await[0], Ok(Acquired::Held(_))));
    assert!(matches!(waiter.acquire(&[request(2)]).await[0], Ok(Acquired::Queued(_))));
    assert!(matches!(holder.release(&[key("a", 1).into()]).await[0], Ok(Released::Released)));
    let hint = within(SOON, "the hint", events.next()).await.unwrap();
    assert!(matches!(hint, Event::Broken { .. }), "a grant that is not confirmed was announced: {hint:?}");
    assert!(matches!(waiter.extend(&[extension(2)]).await[0], Ok(Extended::Queued(_))));
    let granted = within(SOON, "the grant", events.next()).await.unwrap();
    assert!(matches!(granted, Event::Granted { id, .. } if id == key("a", 2).id), "{granted:?}");
    assert!(matches!(waiter.extend(&[extension(2)]).await[0], Ok(Extended::Held(_))));

    assert!(matches!(next.acquire(&[request(3)]).await[0], Ok(Acquired::Queued(_))));
    replica.pause().await;
    assert!(matches!(waiter.release(&[key("a", 2).into()]).await[0], Ok(Released::Released)));
    let is_gone = async || match next.extend(&[extension(3)]).await.remove(0) {
        Ok(Extended::Queued(_)) => false,
        Ok(Extended::Gone { taken: false }) => true,
        other => panic!("a grant that no replica confirmed counts: {other:?}"),
    };
    eventually(SOON, "the release of the grant", is_gone).await;
    assert!(holder.inspect(&key("a", 3).resource).await.unwrap().is_free());
}

/// Concurrent claims share one request, so that a missing replica costs one timeout, not one for each claim.
#[tokio::test]
async fn claims_wait_for_replicas_together() {
    let (primary, replica) = pair().await;
    let client = connect(primary.url(), IMPATIENT).await;
    replica.pause().await;
    let before = waits(&primary);
    let claims = (0..20).map(|id| claim(&format!("job/{id}"), id + 1, Share::EXCLUSIVE, 30_000, IfBusy::Refuse));
    let claims: Vec<_> = claims.collect();
    let asked = claims.iter().map(|claim| client.acquire(std::slice::from_ref(claim)));
    for answer in join_all(asked).await {
        assert!(matches!(answer[0], Err(BackendError::NotApplied(_))), "{answer:?}");
    }
    let made = waits(&primary) - before;
    assert!((1..=10).contains(&made), "{made} requests");
}

/// The number of requests to wait for replicas so far.
fn waits(primary: &Redis) -> u64 {
    let stats = primary.resp().command(&["INFO", "commandstats"]).to_string();
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_wait:calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}
