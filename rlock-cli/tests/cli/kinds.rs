//! The kinds of locks that `rlock run` takes, and how it keeps them.

use std::time::{Duration, Instant};

use super::Server;
use crate::support::{Observer, Rlock, unique};

#[test]
fn shared_locks_are_held_together_and_an_exclusive_one_alone() {
    let server = Server::start();
    let name = unique("shared");
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut reader = Rlock::on(&server, &["run", &name, "--shared", "--", "cat"]);
        reader.hear("acquired");
        readers.push(reader);
    }
    Rlock::on(&server, &["run", &name, "--exclusive", "--try", "--", "true"]).exit().assert(75, &[]);
    let writer = Rlock::on(&server, &["run", &name, "--exclusive", "--", "true"]);
    Observer::of(&server).wait_for_queue(&name, 1);
    Rlock::on(&server, &["run", &name, "--shared", "--try", "--", "true"]).exit().assert(75, &[]);
    for reader in readers {
        reader.exit().assert(0, &["released"]);
    }
    writer.exit().assert(0, &["released"]);
}

#[test]
fn so_many_run_at_a_time_as_there_are_slots() {
    let server = Server::start();
    let name = unique("slots");
    let mut holders = Vec::new();
    for _ in 0..3 {
        let mut holder = Rlock::on(&server, &["run", &name, "--slots", "3", "--", "cat"]);
        holder.hear("acquired");
        holders.push(holder);
    }
    Rlock::on(&server, &["run", &name, "--slots", "3", "--try", "--", "true"]).exit().assert(75, &[]);
    let other = Rlock::on(&server, &["run", &name, "--slots", "4", "--try", "--", "true"]).exit();
    other.assert(69, &["one name is used as two kinds of lock"]);
    holders.pop().unwrap().exit().assert(0, &["released"]);
    Rlock::on(&server, &["run", &name, "--slots", "3", "--try", "--", "true"]).exit().assert(0, &["released"]);
    for holder in holders {
        holder.exit().assert(0, &["released"]);
    }
}

#[test]
fn a_lock_that_others_hold_is_0_where_that_is_as_good() {
    let server = Server::start();
    let name = unique("skipped");
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    for patience in [&["--try"][..], &["--wait", "100ms"]] {
        let skipped =
            Rlock::on(&server, &[&["run", &name, "--skip-ok"], patience, &["--", "echo", "ran"]].concat()).exit();
        skipped.assert(0, &["others hold it"]);
        assert_eq!(skipped.stdout, "");
    }
    holder.exit().assert(0, &["released"]);
}

#[test]
fn a_lock_is_kept_for_a_while_after_a_short_program() {
    const WHILE: Duration = Duration::from_secs(1);
    let server = Server::start();
    let name = unique("kept");
    let started = Instant::now();
    let mut first = Rlock::on(&server, &["run", &name, "--min-hold", "1s", "--", "true"]);
    first.hear("keeping");
    Rlock::on(&server, &["run", &name, "--try", "--", "true"]).exit().assert(75, &[]);
    Rlock::on(&server, &["run", &name, "--", "true"]).exit().assert(0, &["released"]);
    assert!(started.elapsed() >= WHILE);
    first.exit().assert(0, &["released"]);
}

#[test]
fn an_interval_that_is_no_shorter_than_the_ttl_is_refused() {
    let server = Server::start();
    let name = unique("interval");
    let run =
        |interval| Rlock::on(&server, &["run", &name, "--ttl", "4s", "--interval", interval, "--", "true"]).exit();
    run("500ms").assert(0, &["released"]);
    run("4s").assert(64, &["interval"]);
}
