//! Locks on three etcd servers: failures of one of them, and an operator.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::{join, join_all};
use rlock_core::{Client, ClientBuilder, Clock, Finding, Guard, LockOptions, LossReason, SimpleLock, Verdict};
use rlock_etcd::{EtcdBackend, EtcdConfig};
use rlock_testkit::contest::{Arena, Mishap, Workload, run_contender};
use rlock_testkit::faults::{Control, Data, Proxy, Way};
use rlock_testkit::process::{Helper, block_on};
use rlock_testkit::servers::EtcdCluster;
use rlock_testkit::this_test;
use rlock_testkit::wait::{eventually, within};

/// Long enough for an election, which takes one to two seconds, and for the requests in flight when it began.
const TTL: Duration = Duration::from_secs(12);
const SOON: Duration = Duration::from_secs(30);

/// How the leader fails, and comes back.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Killed,
    Stopped,
    CutOff,
}

impl Failure {
    async fn begin(self, cluster: &EtcdCluster, index: usize) {
        match self {
            Self::Killed => cluster.node(index).kill().await,
            Self::Stopped => cluster.node(index).pause().await,
            Self::CutOff => cluster.cut_off(index),
        }
    }

    async fn end(self, cluster: &EtcdCluster, index: usize) {
        match self {
            Self::Killed | Self::Stopped => cluster.node(index).restart(Data::Kept).await,
            Self::CutOff => cluster.heal(index),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_leader_loses_no_lock() {
    loses_nothing(Failure::Killed).await;
}

/// The leader stalls for longer than any TTL, and is killed then: a leader of etcd before 3.4.31 and 3.5.13 that
/// resumes after so long ends the leases that were extended meanwhile (etcd issue 15247).
#[tokio::test(flavor = "multi_thread")]
async fn paused_leader_loses_no_lock() {
    loses_nothing(Failure::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resumed_leader_loses_no_lock() {
    let cluster = EtcdCluster::start();
    let url = cluster.url();
    let clients = join_all((0..4).map(|_| client(&url))).await;
    let names: Vec<String> = (0..20).map(|number| format!("job/{number}")).collect();
    let guards = join_all(names.iter().zip(clients.iter().cycle()).map(|(name, client)| lock(client, name))).await;
    for _ in 0..3 {
        let leader = cluster.leader().await;
        cluster.node(leader).pause().await;
        tokio::time::sleep(TTL / 2).await;
        cluster.node(leader).resume().await;
        tokio::time::sleep(TTL / 2).await;
        let lost: Vec<_> = guards.iter().filter(|guard| !guard.is_held()).collect();
        assert!(lost.is_empty(), "{} of {} locks were lost: {lost:?}", lost.len(), guards.len());
    }
    for guard in guards {
        within(SOON, "an unlock", guard.unlock()).await.expect("it is held");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_leader_loses_no_lock() {
    loses_nothing(Failure::CutOff).await;
}

/// Clients on all servers hold locks and wait for them while two leaders fail in turn; new locks are granted meanwhile.
async fn loses_nothing(failure: Failure) {
    let cluster = EtcdCluster::start();
    let url = cluster.url();
    let clients = join_all((0..4).map(|_| client(&url))).await;
    let names: Vec<String> = (0..20).map(|number| format!("job/{number}")).collect();
    let guards = join_all(names.iter().zip(clients.iter().cycle()).map(|(name, client)| lock(client, name))).await;
    let waiting: Vec<_> = (0..4).map(|number| in_background(&clients[(number + 1) % 4], &names[number])).collect();
    for name in &names[..4] {
        sees_queued(&clients[0], name).await;
    }
    for (round, client) in clients.iter().enumerate().take(2) {
        let leader = cluster.leader().await;
        let failed = Instant::now();
        failure.begin(&cluster, leader).await;
        let other = within(SOON, "a lock after the leader failed", lock(client, &format!("new/{round}"))).await;
        println!("{failure:?}: a new lock {:?} after the leader failed", failed.elapsed());
        tokio::time::sleep((TTL + TTL / 3).saturating_sub(failed.elapsed())).await;
        let lost: Vec<_> = guards.iter().filter(|guard| !guard.is_held()).collect();
        assert!(lost.is_empty(), "{failure:?}: {} of {} locks were lost: {lost:?}", lost.len(), guards.len());
        assert!(other.is_held());
        failure.end(&cluster, leader).await;
        // Without the next leader there is no majority until this server has caught up.
        let has_caught_up = async || cluster.node(leader).gateway().revision().is_ok();
        eventually(SOON, "a majority without the next leader", has_caught_up).await;
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "two hold one lock");
    }
    for guard in guards {
        within(SOON, "an unlock", guard.unlock()).await.expect("it is held");
    }
    for waiting in waiting {
        let guard = within(SOON, "the waiter's turn", waiting).await.expect("no waiting task panics");
        within(SOON, "an unlock", guard.unlock()).await.expect("it is held");
    }
}

/// Each stage of connecting completes after an election, if the leader fails during it.
#[tokio::test(flavor = "multi_thread")]
async fn clients_connect_while_the_leader_fails() {
    let cluster = EtcdCluster::start();
    let url = cluster.url();
    let holder = client(&url).await;
    let is_over = AtomicBool::new(false);
    let connect_again_and_again = async || {
        while !is_over.load(Ordering::Relaxed) {
            client(&url).await;
        }
    };
    let fail_twice = async {
        for round in 0..2 {
            let leader = cluster.leader().await;
            Failure::Killed.begin(&cluster, leader).await;
            let guard = within(SOON, "a lock after the leader failed", lock(&holder, &format!("new/{round}"))).await;
            guard.unlock().await.expect("it is held");
            Failure::Killed.end(&cluster, leader).await;
            let has_caught_up = async || cluster.node(leader).gateway().revision().is_ok();
            eventually(SOON, "a majority without the next leader", has_caught_up).await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    join(join_all((0..4).map(|_| connect_again_and_again())), fail_twice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_down_is_named() {
    let cluster = EtcdCluster::start();
    let client = client(&cluster.url()).await;
    let is_silence = |finding: &Finding| finding.text.contains("did not answer");
    // On a busy machine another server may be too slow.
    let is_whole = |finding: &Finding| finding.text == "3 servers, which tolerate the loss of 1";
    let all_answer = async || {
        let findings = client.examine().await;
        findings.is_ok_and(|findings| findings.iter().any(is_whole) && !findings.iter().any(is_silence))
    };
    eventually(SOON, "answers of all servers", all_answer).await;
    let follower = (cluster.leader().await + 1) % cluster.size();
    cluster.node(follower).kill().await;
    let is_named = |finding: &Finding| {
        is_silence(finding) && finding.verdict == Verdict::Risk && finding.text.starts_with("1 of 3 servers")
    };
    let one_is_named = async || {
        let findings = client.examine().await;
        findings.is_ok_and(|findings| findings.iter().any(is_named) && !findings.iter().any(is_whole))
    };
    eventually(SOON, "the server that is down", one_is_named).await;
}

/// The connections of one holder to all servers break. Those of another stay open, and all bytes get lost.
#[tokio::test(flavor = "multi_thread")]
async fn cut_off_holders_lose_locks_before_the_next() {
    let cluster = EtcdCluster::start();
    let other = client(&cluster.url()).await;
    let mut handed_over = Vec::new();
    for name in ["cut", "half-open"] {
        let (url, proxy) = Proxy::in_front_of_hosts(&cluster.url());
        let holder = client(&url).await;
        let guard = Arc::new(lock(&holder, name).await);
        let (waiter, old) = (other.clone(), guard.clone());
        let waiting = tokio::spawn(async move {
            let next = lock(&waiter, name).await;
            (next, old.is_held())
        });
        sees_queued(&other, name).await;
        match name {
            "cut" => proxy.cut(),
            _ => proxy.lose(Way::Both),
        }
        handed_over.push((holder, proxy, guard, waiting));
    }
    for (holder, proxy, guard, waiting) in handed_over {
        assert_eq!(within(SOON, "the loss", guard.lost()).await, LossReason::Expired);
        let (next, held_by_both) = within(SOON, "the waiter's turn", waiting).await.expect("no waiting task panics");
        assert!(!held_by_both && next.token() > guard.token(), "{guard:?}, {next:?}");
        proxy.heal();
        drop(holder);
    }
}

/// The clock of one client is an hour ahead of the other's.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_clock_of_a_client_ends_no_lock() {
    let cluster = EtcdCluster::start();
    let url = cluster.url();
    let ahead = Client::builder().clock(Clock::boot().ahead_by(Duration::from_secs(60 * 60)));
    let (right, wrong) = (client(&url).await, client_of(ahead, &url).await);
    for (holder, other) in [(&right, &wrong), (&wrong, &right)] {
        let guard = lock(holder, "job").await;
        let lock_of_other = SimpleLock::new("job", other).expect("a good name");
        assert!(lock_of_other.try_lock().await.expect("etcd answers").is_none(), "its lease has expired on a clock");
        assert!(guard.is_held());
        guard.unlock().await.expect("it is held");

        let (brief, begun) = (Duration::from_secs(2), Instant::now());
        let options = LockOptions::new().ttl(brief).watchdog(false);
        let lock_of_holder = SimpleLock::new("job", holder).expect("a good name");
        let abandoned = lock_of_holder.lock_with(options).await.expect("the lock can be had");
        let next = within(SOON, "the end of a lease", lock(other, "job")).await;
        let (ended, margin) = (begun.elapsed(), Duration::from_millis(20));
        assert!(ended + margin >= brief && !abandoned.is_held(), "a lease of {brief:?} ended after {ended:?}");
        next.unlock().await.expect("it is held");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_lock_is_granted_and_lost_at_once() {
    let cluster = EtcdCluster::start();
    let operator = client(&cluster.url()).await;
    let break_it = async || {
        assert_eq!(operator.break_leases("job").await.expect("etcd answers"), 1);
    };
    passes_on_at_once(&cluster, break_it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_lock_is_granted_and_lost_at_once() {
    let cluster = EtcdCluster::start();
    // The waiter's key is at another spot.
    let delete_it = async || {
        let deleted = cluster.node(0).gateway().delete("rlock/job/00000001/x0");
        assert_eq!(deleted.expect("etcd answers"), 1);
    };
    passes_on_at_once(&cluster, delete_it).await;
}

/// An operator takes a lock away: the next waiter has it, and the holder is notified long before its next renewal.
async fn passes_on_at_once(cluster: &EtcdCluster, take_away: impl AsyncFn()) {
    const LONG: Duration = Duration::from_secs(60);
    let url = cluster.url();
    let (holder, other) = (client(&url).await, client(&url).await);
    let old = SimpleLock::new("job", &holder).expect("a good name");
    let old = old.lock_with(LockOptions::new().ttl(LONG)).await.expect("the lock can be had");
    let waiting = in_background(&other, "job");
    sees_queued(&holder, "job").await;
    take_away().await;
    let next = within(LONG / 6, "the waiter's turn", waiting).await.expect("no waiting task panics");
    let reason = within(LONG / 6, "the loss", old.lost()).await;
    assert!(matches!(reason, LossReason::Broken | LossReason::Gone), "{reason}");
    assert!(next.token() > old.token());
    assert!(old.unlock().await.is_err());
    let again = SimpleLock::new("job", &holder).expect("a good name").try_lock().await;
    assert!(again.expect("etcd answers").is_none() && next.is_held(), "the old holder has released the next lock");
}

/// Processes are killed, frozen and cut off from all servers while leaders are killed, and stopped or cut off by chance.
/// Each [`Mishap`] happens at least once. No two hold a lock, tokens grow, no update is lost, every loss is signalled in
/// time, and every waiter is served.
#[test]
fn histories_of_processes_are_right_while_leaders_fail() {
    const ALL: [Mishap; 8] = [
        Mishap::ProcessKilled,
        Mishap::ProcessFrozen,
        Mishap::Cut,
        Mishap::Stalled,
        Mishap::HalfOpen,
        Mishap::Slow,
        Mishap::ServerPaused,
        Mishap::ServerKilled,
    ];
    if let Some(helper) = Helper::current() {
        return block_on(run_contender(helper, async |url| client(url).await));
    }
    block_on(async {
        let cluster = EtcdCluster::start();
        let ttl = Duration::from_secs(4);
        let (leaders, seed) = (Leaders::of(&cluster, ttl), rand::random());
        println!("seed {seed}");
        let arena = Arena::new(Workload::mixed(ttl), this_test!(), &cluster.url(), Some(&leaders), 6, seed).await;
        let arena = arena.behind(Proxy::in_front_of_hosts);
        let faults = async {
            tokio::time::sleep(Duration::from_secs(40)).await;
            eventually(Duration::from_secs(60), "each kind of fault", async || arena.has_begun_each()).await;
        };
        let outcome = arena.run_during(faults, &ALL, Duration::from_millis(250)).await;
        println!("{:?}\n{}", outcome.mishaps, outcome.verdict.counts);
        let counts = outcome.verdict.into_result().unwrap_or_else(|violation| panic!("{violation}"));
        assert!(counts.acquisitions > 15, "{counts}");
    });
}

/// The current leader, as the server that fails.
struct Leaders<'a> {
    cluster: &'a EtcdCluster,
    failed: Mutex<Option<(usize, Failure, Instant)>>,
    /// The longest time for which a leader may stall and resume.
    longest: Duration,
}

impl<'a> Leaders<'a> {
    fn of(cluster: &'a EtcdCluster, ttl: Duration) -> Self {
        Self { cluster, failed: Mutex::default(), longest: ttl / 2 }
    }

    async fn fail(&self, failure: Failure) {
        let leader = self.cluster.leader().await;
        *self.failed.lock().expect("no thread panics while holding it") = Some((leader, failure, Instant::now()));
        failure.begin(self.cluster, leader).await;
    }

    async fn heal(&self) {
        let failed = self.failed.lock().expect("no thread panics while holding it").take();
        let (leader, failure, since) = failed.expect("what failed comes back once");
        match failure {
            Failure::Stopped if since.elapsed() < self.longest => self.cluster.node(leader).resume().await,
            _ => failure.end(self.cluster, leader).await,
        }
    }
}

#[async_trait]
impl Control for Leaders<'_> {
    async fn pause(&self) {
        self.fail(if rand::random() { Failure::Stopped } else { Failure::CutOff }).await;
    }

    async fn resume(&self) {
        self.heal().await;
    }

    async fn kill(&self) {
        self.fail(Failure::Killed).await;
    }

    async fn restart(&self, data: Data) {
        assert_eq!(data, Data::Kept, "no cluster loses all its data by one of its servers");
        self.heal().await;
    }
}

async fn client(url: &str) -> Client {
    client_of(Client::builder(), url).await
}

async fn client_of(builder: ClientBuilder, url: &str) -> Client {
    let url = format!("{url}?restart_grace=0s");
    let config = EtcdConfig::from_url(&url).expect("a URL of etcd");
    // Elections are slow on a busy machine, and start again when votes are split.
    let config = config.connect_timeout(SOON).expect("it is in bounds");
    builder.retry_for(SOON).connect(EtcdBackend::connect(config)).await.expect("etcd can be reached")
}

async fn lock(client: &Client, name: &str) -> Guard {
    let lock = SimpleLock::new(name, client).expect("a good name");
    lock.lock_with(LockOptions::new().ttl(TTL)).await.expect("the lock can be had")
}

fn in_background(client: &Client, name: &str) -> tokio::task::JoinHandle<Guard> {
    let (client, name) = (client.clone(), name.to_owned());
    tokio::spawn(async move { lock(&client, &name).await })
}

async fn sees_queued(client: &Client, name: &str) {
    let is_queued = async || client.inspect(name).await.expect("etcd answers").queue.len() == 1;
    eventually(SOON, "a waiter to queue", is_queued).await;
}
