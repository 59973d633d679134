//! `rlock` after it was stopped: its timers are due, and it has not read yet what came meanwhile.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::Server;
use super::tree::keeper_of;
use crate::support::{Folder, Observer, Process, Rlock, SHORT_TTL, unique, until};

#[test]
fn kill_by_the_keeper_is_reported() {
    let server = Server::start();
    let folder = Folder::new();
    let script = folder.script("echo $$ > $D/pid; exec sleep 600");
    let running = Rlock::run_script(&server, &unique("delayed"), &["--ttl", "4s"], &script);
    let program = folder.wait_for_process("pid");
    running.signal(Signal::SIGSTOP);
    until("the kill by the keeper", || (!program.is_alive()).then_some(()));
    running.signal(Signal::SIGCONT);
    running.exit().assert(76, &["killed the program: rlock was stopped"]);
}

#[test]
fn program_that_ended_in_time_is_not_overdue() {
    const MAX_HOLD: Duration = Duration::from_secs(5);
    let server = Server::start();
    let folder = Folder::new();
    let script = folder.script("echo $$ > $D/pid; until [ -e $D/end ]; do sleep 0.01; done; exit 7");
    let options = ["--ttl", "10m", "--max-hold", "5s"];
    let running = Rlock::run_script(&server, &unique("in-time"), &options, &script);
    let program = folder.wait_for_process("pid");
    let (supervisor, keeper) = (Process::from(running.pid()), keeper_of(&running, &program));
    running.signal(Signal::SIGSTOP);
    supervisor.wait_until_stopped();
    fs::write(folder.path("end"), "").unwrap();
    keeper.wait_until_dead();
    thread::sleep(MAX_HOLD);
    running.signal(Signal::SIGCONT);
    let exited = running.exit();
    exited.assert(7, &["released"]);
    assert!(!exited.stderr.contains("--max-hold"), "{}", exited.stderr);
}

#[test]
fn lock_of_continued_rlock_is_extended_in_time() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let name = unique("continued");
    let mut running = Rlock::on(&server, &["run", &name, "--ttl", "12s", "--json", "--", "cat"]);
    running.hear("\"event\":\"started\"");
    running.signal(Signal::SIGSTOP);
    wait_for_the_last_quarter(&observer, &name);
    running.signal(Signal::SIGCONT);
    until("an extension", || (observer.holder(&name)?.remaining > Duration::from_secs(6)).then_some(()));
    let exited = running.exit();
    exited.assert(0, &["released"]);
    assert!(!exited.stderr.contains("losing"), "{}", exited.stderr);
}

#[test]
fn stopped_waiter_starts_nothing_on_a_dead_lease() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("asleep");
    let hold = || {
        let mut holder = Rlock::on(&server, &["run", &name, "--ttl", "1m", "--", "cat"]);
        holder.hear("acquired");
        holder
    };
    let first = hold();
    let script = folder.script("echo $RLOCK_TOKEN >> $D/ran");
    let waiter = Rlock::run_script(&server, &name, &["--ttl", SHORT_TTL], &script);
    observer.wait_for_queue(&name, 1);
    let stopped = Process::from(waiter.pid());
    waiter.signal(Signal::SIGSTOP);
    stopped.wait_until_stopped();
    first.exit().assert(0, &["released"]); // the store grants the lock to the waiter, unless its place has expired
    until("the end of the waiter's lease", || observer.look(&name).is_free().then_some(()));
    let next = hold();
    let token = observer.holder(&name).unwrap().token.get();
    waiter.signal(Signal::SIGCONT);
    observer.wait_for_queue(&name, 1);
    assert_eq!(folder.read("ran"), "");
    next.exit().assert(0, &["released"]);
    waiter.exit().assert(0, &["released"]);
    let own_token: u64 = folder.read("ran").trim().parse().unwrap();
    assert!(own_token > token, "{own_token} after {token}");
}

/// Waits until the program of a lock with a TTL of 12 s would get TERM.
fn wait_for_the_last_quarter(observer: &Observer, name: &str) {
    const LEFT: Duration = Duration::from_secs(3);
    until("the last quarter of the lease", || (observer.holder(name)?.remaining < LEFT).then_some(()));
}
