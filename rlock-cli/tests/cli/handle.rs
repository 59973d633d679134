//! A lock over several commands.

use std::time::{Duration, Instant};

use rlock_testkit::faults::Control as _;

use super::Server;
use crate::support::{Rlock, unique, wait_for};

#[test]
fn lock_is_held_over_several_commands() {
    let server = Server::start();
    let name = unique("steps");
    let acquired = Rlock::on(&server, &["acquire", &name, "--ttl", "1m"]).exit();
    acquired.assert(0, &["acquired"]);
    let handle = acquired.stdout.trim();
    let held = || Rlock::on(&server, &["run", &name, "--try", "--", "true"]).exit().assert(75, &["held by"]);
    held();
    let exited = Rlock::on(&server, &["run", "--handle", handle, "--", "sh", "-c", "echo $RLOCK_TOKEN; exit 7"]).exit();
    exited.assert(7, &[]);
    assert!(handle.contains(exited.stdout.trim()), "{handle}");
    held();
    let extended = Rlock::on(&server, &["extend", handle, "--ttl", "2m", "--json"]).exit();
    extended.assert(0, &["\"event\":\"extended\"", &format!("extended {name} for ")]);
    held();
    Rlock::on(&server, &["release", handle]).exit().assert(0, &["released"]);
    Rlock::on(&server, &["run", &name, "--try", "--", "true"]).exit().assert(0, &[]);
    for command in [&["extend", handle][..], &["release", handle], &["run", "--handle", handle, "--", "true"]] {
        Rlock::on(&server, command).exit().assert(76, &[]);
    }
    Rlock::on(&server, &["release", "rlock1:x"]).exit().assert(64, &["no handle of a lock"]);
}

#[test]
fn handle_stays_held_however_the_program_ends() {
    let server = Server::start();
    let name = unique("kept");
    let acquired = Rlock::on(&server, &["acquire", &name, "--ttl", "1m"]).exit();
    let handle = acquired.stdout.trim();
    let too_long = ["--max-hold", "300ms", "--", "sleep", "600"];
    for (rest, status) in [(&["--", "no-such-program"][..], 127), (&too_long, 77), (&["--", "false"], 1)] {
        Rlock::on(&server, &[&["run", "--handle", handle], rest].concat()).exit().assert(status, &[]);
        Rlock::on(&server, &["run", &name, "--try", "--", "true"]).exit().assert(75, &["held by"]);
    }
    Rlock::on(&server, &["release", handle]).exit().assert(0, &["released"]);
}

#[test]
fn handle_that_keeps_its_deadline_is_reported() {
    let server = Server::start();
    let name = unique("unextended");
    let acquired = Rlock::on(&server, &["acquire", &name, "--ttl", "30s"]).exit();
    let mut running = Rlock::on(&server, &["run", "--handle", acquired.stdout.trim(), "--json", "--", "cat"]);
    running.hear("\"event\":\"started\"");
    wait_for(server.pause());
    running.close_stdin();
    running.exit().assert(0, &["\"event\":\"not_extended\"", "it ends by itself in"]);
}

#[test]
fn handle_released_under_a_program_is_a_loss() {
    let server = Server::start();
    let name = unique("taken-away");
    let acquired = Rlock::on(&server, &["acquire", &name, "--ttl", "10m"]).exit();
    let handle = acquired.stdout.trim();
    let mut running = Rlock::on(&server, &["run", "--handle", handle, "--json", "--", "cat"]);
    running.hear("\"event\":\"started\"");
    Rlock::on(&server, &["release", handle]).exit().assert(0, &["released"]);
    running.exit().assert(76, &["\"event\":\"lost\"", &format!("\"name\":\"{name}\"")]);
}

#[test]
fn acquired_lock_ends_with_its_ttl() {
    let server = Server::start();
    let name = unique("forgotten");
    let started = Instant::now();
    let acquired = Rlock::on(&server, &["acquire", &name, "--ttl", "4s"]).exit();
    acquired.assert(0, &[]);
    Rlock::on(&server, &["run", &name, "--wait", "15s", "--", "true"]).exit().assert(0, &[]);
    assert!(started.elapsed() >= Duration::from_secs(4));
    Rlock::on(&server, &["extend", acquired.stdout.trim()]).exit().assert(76, &[]);
}
