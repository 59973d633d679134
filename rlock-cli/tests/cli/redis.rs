//! On Redis.

#[cfg(feature = "bench")]
#[path = "bench.rs"]
mod bench;
#[path = "elect.rs"]
mod elect;
#[path = "exit.rs"]
mod exit;
#[path = "freeze.rs"]
mod freeze;
#[path = "handle.rs"]
mod handle;
#[path = "kinds.rs"]
mod kinds;
#[path = "loss.rs"]
mod loss;
#[path = "manage.rs"]
mod manage;
#[path = "namespace.rs"]
mod namespace;
#[path = "network.rs"]
mod network;
#[path = "run.rs"]
mod run;
#[path = "show.rs"]
mod show;
#[path = "signals.rs"]
mod signals;
#[path = "storm.rs"]
mod storm;
#[path = "terminal.rs"]
mod terminal;
#[path = "tree.rs"]
mod tree;

use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use rlock_testkit::faults::{Control as _, Data, Proxy};
use rlock_testkit::servers::{Redis as Server, RedisCluster, RedisSentinels, Reply, free_port};
use tokio::runtime::Runtime;

use crate::support::{Exited, Folder, Observer, Rlock, SHORT_TTL, Store, rlock, unique, until, wait_for};

impl Store for Server {
    const SCHEME: &str = "redis";

    #[cfg(any(feature = "bench", feature = "suite"))]
    fn left_in(&self, part: &str) -> Vec<String> {
        self.keys(&format!("*{part}*"))
    }

    fn fresh_url(&self) -> String {
        format!("{}?restart_grace=0s", self.url())
    }
}

#[test]
fn a_wrong_password_is_69() {
    let server = Server::start_durable();
    server.resp().command(&["CONFIG", "SET", "requirepass", "right"]);
    let url = server.url().replace("redis://", "redis://:hunter2@");
    let exited = Rlock::start(&mut rlock(&["run", "x", "--url", &url, "--", "true"])).exit();
    exited.assert(69, &["check the user and the password in the URL"]);
    assert!(!exited.stderr.contains("hunter2"), "{}", exited.stderr);
    let url = server.url().replace("redis://", "redis://:right@");
    Rlock::start(&mut rlock(&["run", "x", "--url", &url, "--", "true"])).exit().assert(0, &[]);
}

#[test]
fn cluster_node_is_refused_by_every_command() {
    let port = free_port().to_string();
    let node = Server::start_with(&["--cluster-enabled", "yes", "--cluster-port", &port]);
    for command in [&["list"][..], &["show", "a"], &["check", "--no-suite"], &["run", "a", "--", "true"]] {
        Rlock::on(&node, command).exit().assert(69, &["a node of a Redis Cluster", "write redis-cluster://host:port"]);
    }
}

#[test]
fn commands_work_on_a_cluster() {
    let cluster = RedisCluster::start_without_replicas();
    let url = format!("{}?restart_grace=0s", cluster.url());
    let address = |index: usize| format!(" 127.0.0.1:{}: ", cluster.node(index).port());
    run_under_several_locks(&url);
    let checked = check(&url);
    checked.assert(0, &[]);
    for index in 0..cluster.size() {
        assert!(has_finding(&checked, "good  version ", &address(index)), "{index}:\n{}", checked.stdout);
    }

    // The check looks at this lock, so that its primary has to answer.
    Rlock::start(rlock(&["run", "rlock-check", "--", "true"]).env("RLOCK_URL", &url)).exit().assert(0, &[]);
    let key = cluster.keys("*}:rlock-check").remove(0);
    let dead = Runtime::new().unwrap().block_on(async {
        let dead = (cluster.owner_of(&key).await + 1) % cluster.size();
        cluster.node(dead).kill().await;
        dead
    });
    let checked = check(&url);
    checked.assert(1, &[]);
    for index in 0..cluster.size() {
        let finding = if index == dead { "risk  primary " } else { "good  version " };
        assert!(has_finding(&checked, finding, &address(index)), "{index}:\n{}", checked.stdout);
    }
}

#[test]
fn commands_work_under_sentinels() {
    let servers = RedisSentinels::start(Duration::from_secs(60));
    let url = format!("{}?restart_grace=0s", servers.url());
    run_under_several_locks(&url);
    let checked = check(&url);
    checked.assert(0, &[]);
    assert!(has_finding(&checked, "good  version ", ""), "{}", checked.stdout);
    assert!(has_finding(&checked, "note  replication ", "1 replicas"), "{}", checked.stdout);
}

/// The program under the locks lists them.
fn run_under_several_locks(url: &str) {
    let names: Vec<String> = (0..6).map(|_| unique("topology")).collect();
    let mut arguments = vec!["run", names[0].as_str()];
    arguments.extend(names[1..].iter().flat_map(|name| ["--name", name.as_str()]));
    arguments.extend(["--", env!("CARGO_BIN_EXE_rlock"), "list"]);
    let listed = Rlock::start(rlock(&arguments).env("RLOCK_URL", url)).exit();
    listed.assert(0, &[]);
    for name in &names {
        assert!(listed.stdout.contains(&format!("1       0  {name}\n")), "{name}:\n{}", listed.stdout);
    }
}

fn check(url: &str) -> Exited {
    Rlock::start(&mut rlock(&["check", "--no-suite", url])).exit()
}

fn has_finding(checked: &Exited, finding: &str, text: &str) -> bool {
    checked.stdout.lines().any(|line| line.starts_with(finding) && line.contains(text))
}

#[test]
fn user_with_the_documented_rights_passes_the_check() {
    let server = Server::start_durable();
    let url = url_of_documented_user(&server);
    let checked = Rlock::start(&mut rlock(&["check", "--no-suite", &url])).exit();
    checked.assert(0, &[]);
    for subject in ["version", "eviction", "persistence", "clock"] {
        assert!(checked.stdout.contains(&format!("  {subject} ")), "{subject}:\n{}", checked.stdout);
    }
}

#[cfg(feature = "bench")]
#[test]
fn documented_rights_suffice_for_bench() {
    let server = Server::start_durable();
    let url = url_of_documented_user(&server);
    let short = ["bench", "--seconds", "0.02", "--tasks", "1", "--waiters", "2", "--leases", "10", "--ttl", "1s"];
    let only = ["round-trip", "cycle", "hand-over", "contention", "renewal"].map(|name| ["--only", name]).concat();
    let exited = Rlock::start(&mut rlock(&[&short[..], &only, &[&url]].concat())).exit();
    exited.assert(0, &[]);
    assert_eq!(server.left_by_bench(), Vec::<String>::new());
}

#[test]
fn loss_found_at_the_release_is_a_loss() {
    let server = Server::start_durable();
    let folder = Folder::new();
    let name = unique("unnoticed");
    let script = folder.script("echo > $D/ready; cat");
    let running = Rlock::run_script(&server, &name, &["--ttl", "1h", "--json"], &script);
    folder.wait_for("ready", 1);
    server.resp().command(&["FLUSHALL"]);
    running.exit().assert(76, &["\"event\":\"lost\"", "was lost", "the program ended with status 0"]);
}

#[test]
fn crash_after_the_minimum_hold_costs_a_ttl() {
    let server = Server::start_durable();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("rest");
    let options = ["--ttl", SHORT_TTL, "--min-hold", "4s"];
    let running = Rlock::run_script(&server, &name, &options, &folder.script("sleep 5; echo > $D/ready; sleep 600"));
    folder.wait_for("ready", 1);
    let remaining = observer.holder(&name).expect("it is held").remaining;
    assert!(remaining <= Duration::from_secs(2), "{remaining:?} are more than the TTL");
    running.signal(Signal::SIGKILL);
    Rlock::on(&server, &["run", &name, "--", "true"]).exit().assert(0, &[]);
}

/// Runs are killed at any moment of their claims, and every fourth time the server as well.
#[test]
fn killed_claims_leave_no_key_without_expiry() {
    let server = Server::start_durable();
    let names = [(); 3].map(|()| unique("killed"));
    for round in 1..=40 {
        let run = |name: &String| Rlock::on(&server, &["run", name, "--ttl", SHORT_TTL, "--", "sleep", "600"]);
        let runs: Vec<_> = names.iter().cycle().take(6).map(run).collect();
        thread::sleep(Duration::from_millis(rand::random_range(0..150)));
        runs.iter().for_each(|run| run.signal_if_alive(Signal::SIGKILL));
        if round % 4 == 0 {
            wait_for(server.restart(Data::Kept));
        }
    }
    let keys = server.keys("rlock:*");
    assert!(!keys.is_empty(), "no run has made a claim");
    for key in keys {
        assert_ne!(server.resp().command(&["PTTL", &key]), Reply::Int(-1), "{key} has no expiry");
    }
    for name in &names {
        Rlock::on(&server, &["run", name, "--wait", "15s", "--", "true"]).exit().assert(0, &[]);
    }
}

/// A primary and a replica behind one address change places. Each promoted server lacks the last releases, so that a lease
/// of an ended run stays there for its TTL.
#[test]
fn contenders_go_on_after_ten_failovers() {
    const LOGS: [&str; 2] = ["one", "two"];
    let servers = [(); 2].map(|()| Server::start_with(&["--repl-diskless-sync-delay", "0"]));
    let front = Proxy::in_front_of(servers[0].url());
    let folder = Folder::new();
    let name = unique("failover");
    let contenders = LOGS.map(|log| {
        let run = format!("{} run {name} --ttl 1s --wait 60s", env!("CARGO_BIN_EXE_rlock"));
        let turn = format!("{run} -- sh -c 'echo >> '$D/{log} || echo $? >> $D/failed");
        let script = format!("until [ -e $D/stop ]; do {turn}; sleep 0.02; done"); // leaves processors to other tests
        let url = format!("{}?restart_grace=1s", front.url());
        Rlock::start(Command::new("sh").args(["-c", &folder.script(&script)]).env("RLOCK_URL", url))
    });
    // The second of two turns began after the call.
    let both_go_on = || {
        let turns = LOGS.map(|log| folder.read(log).matches('\n').count());
        for (log, turns) in LOGS.into_iter().zip(turns) {
            folder.wait_for(log, turns + 2);
        }
    };
    for round in 0..10 {
        let (primary, replica) = (&servers[round % 2], &servers[(round + 1) % 2]);
        let tell = |command: &[&str]| replica.resp().command(command).to_string();
        let (host, port) = primary.address_for_servers();
        tell(&["REPLICAOF", &host, &port.to_string()]);
        until("the replication", || tell(&["INFO", "replication"]).contains("master_link_status:up").then_some(()));
        both_go_on();
        tell(&["REPLICAOF", "NO", "ONE"]);
        both_go_on();
        front.lead_to(replica.url());
        both_go_on();
    }
    std::fs::write(folder.path("stop"), "").expect("the folder is there");
    for contender in contenders {
        contender.exit().assert(0, &[]);
    }
    // The failover lost the lock, or the reply to its release.
    let failed = folder.read("failed");
    assert!(failed.lines().all(|status| matches!(status, "76" | "74")), "a run failed for another reason: {failed}");
}

#[test]
fn what_endangers_locks_is_a_risk() {
    let server = Server::start_durable();
    let checked = Rlock::on(&server, &["check", "--no-suite"]).exit();
    assert!(checked.stdout.contains("good  eviction "), "{}", checked.stdout);
    for setting in [["maxmemory-policy", "allkeys-lru"], ["maxmemory", "100mb"], ["appendonly", "no"]] {
        server.resp().command(&["CONFIG", "SET", setting[0], setting[1]]);
    }
    let checked = Rlock::on(&server, &["check", "--no-suite"]).exit();
    checked.assert(1, &[]);
    assert!(checked.stdout.contains("risk  eviction "), "{}", checked.stdout);
    assert!(checked.stdout.contains("risk  persistence "), "{}", checked.stdout);
}

#[test]
fn failed_case_is_a_risk_with_its_reason() {
    let server = Server::start_durable();
    server.resp().command(&["CONFIG", "SET", "maxmemory", "1"]);
    let checked = Rlock::on(&server, &["check", "--case", "token_increases"]).exit();
    checked.assert(1, &[]);
    assert!(
        checked.stdout.contains("risk  suite        [contract rule 3] this store, token_increases: "),
        "{}",
        checked.stdout
    );
    assert!(checked.stdout.contains("1 of 1 cases failed"), "{}", checked.stdout);
}

/// A user with the rights that the README documents.
fn url_of_documented_user(server: &Server) -> String {
    let rules = rlock::redis::RedisConfig::ACL_RULES.split(' ');
    let command = ["ACL", "SETUSER", "locks", "on", ">secret"].into_iter().chain(rules);
    server.resp().command(&command.collect::<Vec<_>>());
    server.url().replace("redis://", "redis://locks:secret@")
}
