//! Faults that only Redis has, and their effect on locks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rlock_core::{
    Acquired, Backend as _, BackendError, Client, Extended, Extension, Guard, IfBusy, LockOptions, LossReason,
    Released, Share, SimpleLock,
};
use rlock_redis::{RedisBackend, RedisConfig};
use rlock_testkit::faults::{Control as _, Data, Proxy, Way};
use rlock_testkit::servers::Redis;
use rlock_testkit::wait::{eventually, within};

use crate::support::{claim, demote_and_promote, key, ttl};

const SOON: Duration = Duration::from_secs(10);

async fn client(url: &str) -> Client {
    let config = RedisConfig::from_url(&format!("{url}?restart_grace=0s")).expect("a URL of Redis");
    let connect = RedisBackend::connect(config);
    Client::builder().connect(connect).await.expect("Redis can be reached")
}

async fn lock(client: &Client, name: &str, ttl: Duration) -> Guard {
    let lock = SimpleLock::new(name, client).expect("a good name");
    within(SOON, "a lock", lock.lock_with(LockOptions::new().ttl(ttl))).await.expect("the lock is free")
}

#[tokio::test]
async fn script_cache_flushed() {
    const TTL: Duration = Duration::from_secs(1);
    let server = Redis::start();
    let client = client(server.url()).await;
    let guard = lock(&client, "kept", TTL).await;
    let ended = Arc::new(AtomicBool::new(false));
    let stop = ended.clone();
    let mut resp = server.resp();
    let flushing = std::thread::spawn(move || {
        let mut flushes = 0_u32;
        while !stop.load(Ordering::SeqCst) {
            resp.command(&["SCRIPT", "FLUSH"]);
            flushes += 1;
        }
        flushes
    });
    let mut cycles = 0_u32;
    let until = tokio::time::Instant::now() + TTL * 3;
    while tokio::time::Instant::now() < until {
        lock(&client, "cycle", TTL).await.unlock().await.expect("it was held");
        cycles += 1;
    }
    ended.store(true, Ordering::SeqCst);
    let flushes = flushing.join().expect("the server takes it");
    assert!(cycles > 10 && flushes > 10, "{cycles} cycles, {flushes} flushes");
    assert!(guard.is_held(), "{:?}", guard.loss());
    guard.unlock().await.expect("it was held");
}

/// Each caller drops its request before the timeout of the connection.
#[tokio::test]
async fn silent_connection_ends_though_callers_leave() {
    let server = Redis::start_with(&[]);
    let config = RedisConfig::from_url(&format!("{}?restart_grace=0s&timeout=1s", server.url())).expect("a URL");
    let client = RedisBackend::connect(config).await.expect("Redis can be reached");
    let extension = [Extension { key: key("job", 1), ttl: ttl(60_000) }];
    server.pause().await;
    let is_given_up = async || {
        let answer = tokio::time::timeout(Duration::from_millis(800), client.extend(&extension)).await;
        answer.is_ok_and(|answers| matches!(answers[0], Err(BackendError::NotApplied(_))))
    };
    eventually(SOON, "the end of the connection", is_given_up).await;
    server.resume().await;
}

/// A replica without the last writes is promoted: the locks that it has go on, the others are reported as lost, and the
/// next grant has a greater token.
#[tokio::test]
async fn failover_reports_the_loss_of_unreplicated_leases() {
    const TTL: Duration = Duration::from_secs(60);
    let at_once = ["--repl-diskless-sync-delay", "0"];
    let (primary, replica) = (Redis::start_with(&at_once), Redis::start_with(&[]));
    let (host, port) = primary.address_for_servers();
    let to_replica = Mutex::new(replica.resp());
    let tell = |command: &[&str]| to_replica.lock().expect("one at a time").command(command).to_string();
    tell(&["REPLICAOF", &host, &port.to_string()]);
    let proxy = Proxy::in_front_of(primary.url());
    let holder = client(proxy.url()).await;
    let known = lock(&holder, "known", TTL).await;
    eventually(SOON, "the replication", async || tell(&["EXISTS", "rlock:2:{rlock:63}:known"]) == "1").await;

    tell(&["REPLICAOF", "NO", "ONE"]);
    let unknown = lock(&holder, "unknown", TTL).await;
    proxy.lead_to(replica.url());

    let reason = within(SOON, "the loss", unknown.lost()).await;
    assert_eq!(reason, LossReason::Gone);
    let newcomer = client(replica.url()).await;
    let next = lock(&newcomer, "unknown", TTL).await;
    assert!(next.token() > unknown.token());
    let known_by_newcomer = SimpleLock::new("known", &newcomer).expect("a good name");
    assert!(known_by_newcomer.try_lock().await.expect("the replica serves").is_none());
    assert!(known.is_held());
    known.extend(TTL * 2).await.expect("the replica has it");
    known.unlock().await.expect("it was held");
    assert!(known_by_newcomer.try_lock().await.expect("the replica serves").is_some());
}

/// A restarted server may have lost the last grants. So the release of a lease that it has grants nothing to waiters
/// until the last holders had time to learn of their loss.
#[tokio::test]
async fn release_during_the_grace_grants_nothing() {
    const GRACE: Duration = Duration::from_secs(8);
    let server = Redis::start_durable();
    let connect = async |grace: Duration| {
        let config = RedisConfig::from_url(server.url()).unwrap().restart_grace(grace).unwrap();
        RedisBackend::connect(config).await.unwrap()
    };
    let client = connect(Duration::ZERO).await; // the server is new
    let request = |id| claim("a", id, Share::EXCLUSIVE, 600_000, IfBusy::Queue);
    assert!(matches!(client.acquire(&[request(1)]).await[0], Ok(Acquired::Held(_))));
    assert!(matches!(client.acquire(&[request(2)]).await[0], Ok(Acquired::Queued(_))));

    let killed = Instant::now();
    server.restart(Data::Kept).await;
    let client = connect(GRACE).await;
    assert!(matches!(client.release(&[key("a", 1).into()]).await[0], Ok(Released::Released)));
    let extension = Extension { key: key("a", 2), ttl: ttl(600_000) };
    let Ok(Extended::Queued(place)) = client.extend(std::slice::from_ref(&extension)).await.remove(0) else {
        panic!("granted")
    };
    assert!(place.ask_again <= GRACE && place.ask_again >= GRACE / 4, "{place:?}");
    let again = within(GRACE + SOON, "an answer", async {
        loop {
            match client.extend(std::slice::from_ref(&extension)).await.remove(0) {
                Ok(Extended::Queued(place)) => tokio::time::sleep(place.ask_again).await,
                other => break other,
            }
        }
    });
    assert!(matches!(again.await, Ok(Extended::Held(_))));
    assert!(killed.elapsed() >= GRACE, "{:?}", killed.elapsed());
}

/// A server that is demoted and promoted again keeps its connections, and has lost the grants that the other server did
/// not know.
#[tokio::test]
async fn second_promotion_starts_the_grace_on_open_connections() {
    const GRACE: Duration = Duration::from_secs(4);
    let at_once = ["--repl-diskless-sync-delay", "0"];
    let (server, other) = (Redis::start_with(&[]), Redis::start_with(&at_once));
    let config = RedisConfig::from_url(server.url()).unwrap().restart_grace(GRACE).unwrap();
    let client = RedisBackend::connect(config).await.unwrap();
    let request = |id: u128| [claim("a", id, Share::EXCLUSIVE, 600_000, IfBusy::Refuse)];
    let is_granted = async |id: u128| match client.acquire(&request(id)).await.remove(0) {
        Ok(Acquired::Held(_)) => true,
        Err(BackendError::NotApplied(_)) => false,
        answer => panic!("{answer:?}"),
    };
    eventually(GRACE + SOON, "the grace after the start", async || is_granted(1).await).await;

    demote_and_promote(&server, &other).await;
    let promoted = Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await; // a connection in use asks the server again each second
    let doubted = client.acquire(&request(2)).await.remove(0);
    let Err(BackendError::Unknown(failure)) = doubted else { panic!("the lock was granted twice: {doubted:?}") };
    assert!(failure.to_string().contains("promoted a moment ago"), "{failure}");
    assert!(!is_granted(2).await, "by an answer to a second request");
    eventually(GRACE + SOON, "the grace after the promotion", async || is_granted(2).await).await;
    assert!(promoted.elapsed() >= GRACE, "{:?}", promoted.elapsed());
}

/// The network delivers a claim after the promotion and after its deadline, so that the client repeats it.
#[tokio::test]
async fn repeated_claim_is_in_doubt_after_a_promotion() {
    const GRACE: Duration = Duration::from_secs(4);
    let (server, other) = (Redis::start_with(&[]), Redis::start_with(&["--repl-diskless-sync-delay", "0"]));
    let proxy = Proxy::in_front_of(server.url());
    let config = RedisConfig::from_url(&format!("{}?timeout=1m", proxy.url())).unwrap().restart_grace(GRACE).unwrap();
    let client = RedisBackend::connect(config).await.unwrap();
    let request = |id: u128| [claim("a", id, Share::EXCLUSIVE, 600_000, IfBusy::Refuse)];
    let is_granted = async || matches!(client.acquire(&request(1)).await[0], Ok(Acquired::Held(_)));
    eventually(GRACE + SOON, "the grace after the start", is_granted).await;

    proxy.stall(Way::ToServer);
    let promote = async {
        demote_and_promote(&server, &other).await;
        tokio::time::sleep(Duration::from_secs(1)).await; // until the deadline of the claim, and the next question
        proxy.heal();
    };
    let request = request(2);
    let (answers, ()) = tokio::join!(client.acquire(&request), promote);
    let Err(BackendError::Unknown(failure)) = &answers[0] else { panic!("the lock was granted twice: {answers:?}") };
    assert!(failure.to_string().contains("promoted a moment ago"), "{failure}");
}

/// Each answer is a second old when it comes, so that the next request asks for the identity of the server again.
#[tokio::test]
async fn slow_server_is_asked_once_for_many() {
    let server = Redis::start_with(&[]);
    let proxy = Proxy::in_front_of(server.url());
    let url = format!("{}?restart_grace=1ms&timeout=1m", proxy.url());
    let client = RedisBackend::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap();
    let asked = || {
        let stats = server.resp().command(&["INFO", "commandstats"]).to_string();
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_info:calls=")?.split(',').next());
        calls.map_or(0, |calls| calls.parse::<u64>().unwrap())
    };
    tokio::time::sleep(Duration::from_secs(1)).await; // a connection in use asks the server again each second
    let before = asked();
    proxy.slow(Duration::from_millis(600));
    let extensions: Vec<_> = (1..=30).map(|id| [Extension { key: key("a", id), ttl: ttl(60_000) }]).collect();
    for answers in join_all(extensions.iter().map(|extension| client.extend(extension))).await {
        assert!(matches!(answers[0], Ok(Extended::Gone { .. })), "{answers:?}");
    }
    let made = asked() - before;
    assert!(made < 30, "{made} questions");
}
