//! Elections: a program in each term of a candidate.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use rlock_testkit::faults::{Control as _, Data};
use serde_json::Value;

use super::Server;
use crate::support::{Folder, Observer, Process, Rlock, children_of, parent_of, rlock, unique, until, url, wait_for};

/// Notes the token of each term, and goes on until it is ended.
const TERM: &str = "echo $RLOCK_TOKEN >> $D/terms; exec sleep 600";

fn candidate(server: &Server, name: &str, data: &str, script: &str) -> Rlock {
    Rlock::on(server, &["elect", name, "--ttl", "4s", "--data", data, "--json", "--", "sh", "-c", script])
}

fn leader(server: &Server, name: &str) -> Option<Value> {
    let exited = Rlock::on(server, &["leader", name, "--json"]).exit();
    let view: Value = serde_json::from_str(&exited.stdout).expect("the command prints JSON");
    exited.assert(i32::from(view["state"] == "vacant"), &[]);
    Some(view["leader"].clone()).filter(|leader| !leader.is_null())
}

#[test]
fn broken_lead_begins_another_term() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("deposed");
    let mut running = candidate(&server, &name, "", &folder.script(TERM));
    for terms in 1..3 {
        folder.wait_for("terms", terms);
        observer.break_lock(&name);
        running.hear("\"event\":\"campaigning\"");
    }
    let terms = folder.wait_for("terms", 3);
    let tokens: Vec<u64> = terms.lines().map(|token| token.parse().expect("a token")).collect();
    assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    let comm = fs::read_to_string(format!("/proc/{}/comm", running.pid())).expect("it runs");
    assert_eq!(comm, "rlock\n", "a later term has another name");
    let keeper = until("the keeper", || children_of(running.pid()).first().copied());
    let comm = fs::read_to_string(format!("/proc/{keeper}/comm")).expect("it runs");
    assert_eq!(comm, "rlock\n", "the keeper of a later term has another name");
    running.signal(Signal::SIGTERM);
    running.exit().assert(143, &[]);
    assert_eq!(leader(&server, &name), None);
}

#[test]
fn terminated_candidate_does_not_campaign_again() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("retired");
    let script = folder.script("trap 'echo >> $D/asked' TERM; echo >> $D/terms; while :; do sleep 0.01; done");
    let running = candidate(&server, &name, "", &script);
    folder.wait_for("terms", 1);
    running.signal(Signal::SIGTERM);
    folder.wait_for("asked", 1);
    observer.break_lock(&name);
    let exited = running.exit();
    exited.assert(143, &["was lost"]);
    assert!(!exited.stderr.contains("campaigning"), "{}", exited.stderr);
    assert_eq!((&*folder.read("terms"), &*folder.read("asked")), ("\n", "\n"));
}

#[test]
fn silent_store_ends_the_term_only() {
    let server = Server::start_durable();
    let folder = Folder::new();
    let name = unique("outage");
    let mut running = candidate(&server, &name, "", &folder.script(TERM));
    folder.wait_for("terms", 1);
    wait_for(server.pause());
    running.hear("campaigning for");
    wait_for(server.resume());
    folder.wait_for("terms", 2);
    running.signal(Signal::SIGTERM);
    running.exit().assert(143, &[]);
}

#[test]
fn candidate_waits_for_a_store_that_is_down() {
    const OUTAGE: Duration = Duration::from_secs(7); // longer than a claim is retried
    let server = Server::start_durable();
    let folder = Folder::new();
    let (name, url) = (unique("early"), url(&server));
    Rlock::on(&server, &["run", &unique("tables"), "--", "true"]).exit().assert(0, &[]); // a file has them from now on
    wait_for(server.kill());
    let script = folder.script(TERM);
    let mut running = Rlock::start(rlock(&["elect", &name, "--", "sh", "-c", &script]).env("RLOCK_URL", url));
    running.hear("waiting for");
    std::thread::sleep(OUTAGE);
    wait_for(server.restart(Data::Kept));
    folder.wait_for("terms", 1);
    running.signal(Signal::SIGTERM);
    running.exit().assert(143, &[]);
}

#[test]
fn program_ended_before_its_loss_ends_the_candidate() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("ended");
    let script = folder.script("echo $$ > $D/pid; read line; exit 7");
    let mut running = Rlock::on(&server, &["elect", &name, "--ttl", "1m", "--", "sh", "-c", &script]);
    let program = folder.wait_for_process("pid");
    let (keeper, candidate) = (Process::from(parent_of(program.pid())), Process::from(running.pid()));
    running.signal(Signal::SIGSTOP);
    candidate.wait_until_stopped();
    observer.break_lock(&name);
    running.say("\n");
    program.wait_until_reaped();
    keeper.wait_until_dead(); // it has noticed the end of the program
    running.signal(Signal::SIGCONT);
    let exited = running.exit();
    exited.assert(7, &["the program ended with status 7"]);
    assert!(!exited.stderr.contains("campaigning"), "{}", exited.stderr);
}

#[test]
fn loss_after_the_program_ended_ends_the_candidate() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("left");
    let mut running = candidate(&server, &name, "", &folder.script("setsid sleep 600 & exit 7"));
    running.hear("stays held for what it has left running");
    observer.break_lock(&name);
    let exited = running.exit();
    exited.assert(7, &["was lost"]);
    assert!(!exited.stderr.contains("campaigning"), "{}", exited.stderr);
}

#[test]
fn killed_keeper_ends_the_candidate() {
    let server = Server::start();
    let folder = Folder::new();
    let name = unique("unkept");
    let script = folder.script("echo $$ > $D/pid; exec sleep 600");
    let mut running = Rlock::on(&server, &["elect", &name, "--json", "--", "sh", "-c", &script]);
    running.hear("started");
    let program = folder.wait_for_process("pid");
    kill(parent_of(program.pid()), Signal::SIGKILL).expect("it runs");
    let exited = running.exit();
    exited.assert(71, &["the keeper of the program was killed"]);
    assert!(!exited.stderr.contains("campaigning"), "{}", exited.stderr);
    assert_eq!(leader(&server, &name), None);
}

#[test]
fn next_candidate_leads_after_the_first() {
    let server = Server::start();
    let folder = Folder::new();
    let name = unique("handed-over");
    let mut first = candidate(&server, &name, "one", &folder.script(TERM));
    folder.wait_for("terms", 1);
    let mut second = candidate(&server, &name, "two", &folder.script("echo >> $D/second; read line; exit 7"));
    second.hear("waiting for");
    let led = leader(&server, &name).expect("the first leads");
    assert_eq!((&led["data"], &led["label"]), (&"one".into(), &"sh".into()), "{led}");
    let shown = Rlock::on(&server, &["leader", &name]).exit();
    shown.assert(0, &[]);
    assert!(shown.stdout.contains("is led by") && shown.stdout.ends_with(": one\n"), "{}", shown.stdout);
    first.signal(Signal::SIGTERM);
    folder.wait_for("second", 1);
    let next = leader(&server, &name).expect("the second leads");
    assert_eq!(next["data"], "two");
    assert!(next["token"].as_u64() > led["token"].as_u64(), "{led} {next}");
    first.hear("released");
    second.say("\n");
    second.exit().assert(7, &["released"]);
    assert_eq!(leader(&server, &name), None);
}

#[test]
fn leader_is_followed_over_its_changes() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("followed");
    let follower = Rlock::on(&server, &["leader", &name, "--follow"]);
    follower.hear_printed("has no leader");
    let running = candidate(&server, &name, "here", &folder.script(TERM));
    folder.wait_for("terms", 1);
    let first = follower.hear_printed(": here");
    observer.break_lock(&name);
    folder.wait_for("terms", 2);
    let second = until("the next leader", || Some(follower.hear_printed(": here")).filter(|line| *line != first));
    assert!(second.contains("is led by"), "{second}");
    running.signal(Signal::SIGTERM);
    running.exit().assert(143, &[]);
    follower.hear_printed("has no leader");
}

#[test]
fn signal_ends_a_campaign() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let name = unique("impatient");
    let mut leading = candidate(&server, &name, "", "read line");
    leading.hear("acquired");
    let waiting = candidate(&server, &name, "", "true");
    observer.wait_for_queue(&name, 1);
    waiting.signal(Signal::SIGTERM);
    waiting.exit().assert(143, &["stopped by SIGTERM"]);
    leading.say("\n");
    leading.exit().assert(0, &[]);
}
