//! Tests of clusters of etcd servers, which are programs of this machine.

use std::time::{Duration, Instant};

use rlock_testkit::faults::{Control, Data};
use rlock_testkit::servers::{EtcdCluster, Gateway};
use tokio::time::sleep;

use super::etcd::{ask, grant};
use super::{failure_of, refuses, run, text};

const STARTS: &str = "etcd_cluster::three_servers_start_and_agree";
const AGREED_WITHIN: Duration = Duration::from_secs(20);

/// Another test runs this one again, in another environment.
#[tokio::test]
async fn three_servers_start_and_agree() {
    let begun = Instant::now();
    let cluster = EtcdCluster::start();
    let leader = cluster.leader().await;
    println!("{leader} leads {}, after {:?}", cluster.url(), begun.elapsed());

    let (through, past) = (urls(&cluster.url()), urls(&cluster.direct_url()));
    assert_eq!((cluster.size(), through.len(), past.len()), (3, 3, 3));
    for index in 0..3 {
        assert_eq!(cluster.node(index).url(), through[index]);
        assert_ne!(through[index], past[index]);
        let key = format!("key/{index}");
        answered(|| Gateway::new(&through[index]).unwrap().put(&key, "through its proxy")).await;
    }
    for url in through.iter().chain(&past) {
        let keys = answered(|| Gateway::new(url).unwrap().keys("")).await;
        assert_eq!(keys, ["key/0", "key/1", "key/2"], "{url}");
    }
}

#[tokio::test]
async fn cut_off_leader_is_replaced_and_catches_up() {
    let cluster = EtcdCluster::start();
    let old = cluster.leader().await;
    write(&cluster, old, "before").await;
    cluster.cut_off(old);
    let begun = Instant::now();
    let new = cluster.leader().await;
    println!("another leader after {:?}", begun.elapsed());
    assert_ne!(new, old);

    let third = 3 - old - new;
    for index in [new, third] {
        write(&cluster, index, "meanwhile").await;
    }
    let silent = through(&cluster, old).within(Duration::from_secs(1)).keys("").unwrap_err();
    assert!(is_timeout(&silent), "clients cannot reach it: {silent}");
    // It does not answer a client that reaches it either, because its answer could be outdated.
    for refused in [cluster.node(old).gateway().keys("").map(drop), cluster.node(old).gateway().put("key", "alone")] {
        let refused = refused.unwrap_err();
        assert!(!is_timeout(&refused), "it says that it cannot: {refused}");
    }
    let value = answered(|| through(&cluster, third).value("key")).await;
    assert_eq!(value.as_deref(), Some("meanwhile"));

    cluster.heal(old);
    let begun = Instant::now();
    agree(&cluster, "meanwhile").await;
    println!("caught up after {:?}", begun.elapsed());
    let mut revisions = Vec::new();
    for index in 0..3 {
        revisions.push(answered(|| through(&cluster, index).revision()).await);
    }
    assert_eq!(revisions, [revisions[0]; 3]);
}

#[tokio::test]
async fn cut_off_follower_hears_and_says_nothing() {
    let cluster = EtcdCluster::start();
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let before = received(&cluster);
    sleep(Duration::from_secs(1)).await;
    for (index, before) in before.iter().enumerate().filter(|&(index, _)| index != leader) {
        assert_ne!(&received(&cluster)[index], before, "the leader speaks to its followers");
    }

    cluster.cut_off(follower);
    sleep(Duration::from_millis(100)).await; // until bytes in flight have arrived
    let before = received(&cluster);
    let cut_off = Instant::now();
    while cut_off.elapsed() < Duration::from_secs(4) {
        write(&cluster, leader, "meanwhile").await;
        grant(cluster.node(leader).url(), 60);
        sleep(Duration::from_millis(100)).await;
    }
    let leases = || cluster.node(follower).gateway().leases().unwrap();
    assert_eq!(leases(), 0, "it has heard of a lease");
    let after = received(&cluster);
    assert_eq!(after[follower], before[follower], "it has heard something");
    let of_follower = format!("{{From=\"{:x}\"}}", member_id(&cluster, follower));
    for other in (0..3).filter(|&other| other != follower) {
        let [before, after] = [&before, &after].map(|all| all[other].iter().find(|line| line.contains(&of_follower)));
        assert_eq!(after, before, "it has said something to {other}");
    }

    cluster.heal(follower);
    agree(&cluster, "meanwhile").await;
    assert!(leases() > 0);
}

/// Old connections, and those that were opened in the meantime, work again.
#[tokio::test]
async fn server_can_be_cut_off_repeatedly() {
    let cluster = EtcdCluster::start();
    for round in 0..6 {
        let value = format!("in round {round}");
        let leader = cluster.leader().await;
        let cut_off = (leader + round) % 3;
        cluster.cut_off(cut_off);
        let leader = cluster.leader().await;
        assert_ne!(leader, cut_off);
        write(&cluster, leader, &value).await;
        cluster.heal(cut_off);
        agree(&cluster, &value).await;
    }
}

#[tokio::test]
async fn killed_or_paused_leader_is_replaced() {
    let cluster = EtcdCluster::start();
    let killed = cluster.leader().await;
    cluster.node(killed).kill().await;
    let begun = Instant::now();
    let paused = cluster.leader().await;
    println!("another leader after {:?}", begun.elapsed());
    assert_ne!(paused, killed);
    write(&cluster, paused, "without one").await;
    cluster.node(killed).restart(Data::Kept).await;
    agree(&cluster, "without one").await;

    let paused = cluster.leader().await;
    cluster.node(paused).pause().await;
    let leader = cluster.leader().await;
    assert_ne!(leader, paused);
    write(&cluster, leader, "without another").await;
    cluster.node(paused).resume().await;
    agree(&cluster, "without another").await;
}

#[tokio::test]
async fn cluster_restarts_with_or_without_data() {
    let cluster = EtcdCluster::start();
    let url = cluster.url();
    write(&cluster, 0, "kept").await;
    cluster.kill().await;
    refuses(&cluster.direct_url());
    cluster.restart(Data::Kept).await;
    agree(&cluster, "kept").await;
    cluster.pause().await;
    cluster.resume().await;
    agree(&cluster, "kept").await;
    cluster.restart(Data::Lost).await; // while it runs
    for index in 0..3 {
        assert_eq!(answered(|| through(&cluster, index).keys("")).await, [""; 0]);
    }
    assert_eq!(cluster.url(), url);
}

#[tokio::test]
async fn dropped_cluster_is_gone_in_any_state() {
    let cluster = EtcdCluster::start();
    cluster.node(0).pause().await;
    cluster.node(1).kill().await;
    cluster.cut_off(2);
    let servers = urls(&cluster.direct_url());
    drop(cluster);
    servers.iter().for_each(|url| refuses(url));
}

#[test]
fn a_cluster_runs_on_programs_and_needs_one() {
    let message = failure_of(STARTS, &[("PATH", "")]);
    for part in ["no etcd here", "`etcd` on the PATH", "apt-get install etcd-server"] {
        assert!(message.contains(part), "{message}");
    }
    let elsewhere = run(STARTS, &[("RLOCK_TEST_SERVERS", "containers"), ("DOCKER_HOST", super::NOWHERE)]);
    assert!(elsewhere.status.success(), "{}", text(&elsewhere));
}

/// Retries a request, as every client has to, because a second election may interrupt it. A busy machine causes
/// elections.
async fn answered<T>(mut ask: impl FnMut() -> std::io::Result<T>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => assert!(begun.elapsed() < AGREED_WITHIN, "no answer: {error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn write(cluster: &EtcdCluster, index: usize, value: &str) {
    answered(|| through(cluster, index).put("key", value)).await;
}

/// Waits until all servers have this value, and panics if they do not get it.
async fn agree(cluster: &EtcdCluster, value: &str) {
    let begun = Instant::now();
    loop {
        let values = [0, 1, 2].map(|index| through(cluster, index).value("key"));
        if values.iter().all(|found| found.as_ref().is_ok_and(|found| found.as_deref() == Some(value))) {
            return;
        }
        assert!(begun.elapsed() < AGREED_WITHIN, "not {value:?}: {values:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The counters of bytes that each server has received from the others, from its metrics: one line per sender.
fn received(cluster: &EtcdCluster) -> [Vec<String>; 3] {
    let servers = urls(&cluster.direct_url());
    [0, 1, 2].map(|index: usize| {
        let metrics = ask(&servers[index], "GET /metrics", "");
        let lines = metrics.lines().filter(|line| line.starts_with("etcd_network_peer_received_bytes_total{"));
        lines.map(str::to_owned).collect()
    })
}

fn member_id(cluster: &EtcdCluster, index: usize) -> u64 {
    let status = ask(&urls(&cluster.direct_url())[index], "POST /v3/maintenance/status", "{}");
    let (_, rest) = status.split_once(r#""member_id":""#).unwrap();
    rest.split('"').next().unwrap().parse().unwrap()
}

/// A client of the server, through its proxy.
fn through(cluster: &EtcdCluster, index: usize) -> Gateway {
    Gateway::new(cluster.node(index).url()).unwrap()
}

fn urls(url: &str) -> Vec<String> {
    url.strip_prefix("etcd://").unwrap().split(',').map(|server| format!("etcd://{server}")).collect()
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
