//! The environment, the streams and the turns of a program under a lock.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::Server;
use crate::support::{Folder, Observer, Rlock, SHORT_TTL, rlock, unique, url};

#[test]
fn standard_input_and_output_are_the_programs() {
    let server = Server::start();
    let mut running = Rlock::on(&server, &["run", &unique("streams"), "--", "cat"]);
    running.say("one\ntwo");
    let exited = running.exit();
    exited.assert(0, &[]);
    assert_eq!(exited.stdout, "one\ntwo");
}

#[test]
fn arguments_reach_the_program_untouched_by_any_shell() {
    let server = Server::start();
    let exited =
        Rlock::on(&server, &["run", &unique("args"), "--", "printf", "%s|", "a b", "$HOME;", "--ttl", "*"]).exit();
    assert_eq!(exited.stdout, "a b|$HOME;|--ttl|*|");
}

#[test]
fn name_and_token_replace_inherited_variables() {
    let server = Server::start();
    let name = unique("büro 7/\"€\"");
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let mut command = rlock(&["run", &name, "--", "sh", "-c", "printf '%s\n' \"$RLOCK_NAME\" \"$RLOCK_TOKEN\""]);
        let exited =
            Rlock::start(command.env("RLOCK_URL", url(&server)).env("RLOCK_NAME", "x").env("RLOCK_TOKEN", "1")).exit();
        let (got_name, token) = exited.stdout.trim().split_once('\n').unwrap();
        assert_eq!(got_name, name);
        exited.assert(0, &[&format!("rlock: acquired {name} (token {token})"), &format!("rlock: released {name}")]);
        tokens.push(token.parse::<u64>().unwrap());
    }
    assert!(tokens[0] < tokens[1], "{tokens:?}");
}

#[test]
fn second_starts_after_the_first_ends() {
    let server = Server::start();
    let folder = Folder::new();
    let name = unique("exclusion");
    let script = |who: &str| folder.script(&format!("echo {who} starts >> $D/log; cat; echo {who} ends >> $D/log"));
    let mut first = Rlock::run_script(&server, &name, &[], &script("first"));
    folder.wait_for("log", 1);
    let mut second = Rlock::run_script(&server, &name, &["--wait", "1m"], &script("second"));
    second.hear(&format!("rlock: waiting for {name}, held by "));
    first.close_stdin();
    second.hear("acquired");
    first.exit().assert(0, &[]);
    second.exit().assert(0, &["released"]);
    assert_eq!(folder.read("log"), "first starts\nfirst ends\nsecond starts\nsecond ends\n");
}

#[test]
fn runs_at_once_lose_no_increment() {
    const RUNS: usize = 12;
    let server = Server::start();
    let folder = Folder::new();
    let name = unique("count");
    std::fs::write(folder.path("count"), "0").unwrap();
    let script = folder.script("n=$(cat $D/count); echo $((n + 1)) > $D/count");
    let runs: Vec<_> = (0..RUNS).map(|_| Rlock::run_script(&server, &name, &["--wait", "5m"], &script)).collect();
    for run in runs {
        run.exit_within(Duration::from_secs(120)).assert(0, &["released"]);
    }
    assert_eq!(folder.read("count"), format!("{RUNS}\n"));
}

#[test]
fn lock_lives_as_long_as_its_program() {
    let server = Server::start();
    let name = unique("long");
    let mut running = Rlock::on(&server, &["run", &name, "--ttl", SHORT_TTL, "--", "sleep", "5"]);
    running.hear("acquired");
    let observer = Observer::of(&server);
    let token = observer.holder(&name).unwrap().token;
    while let Some(holder) = observer.holder(&name) {
        assert_eq!(holder.token, token);
        std::thread::sleep(Duration::from_millis(20));
    }
    running.exit().assert(0, &["released"]);
    assert!(observer.look(&name).is_free());
}

#[test]
fn failed_start_of_a_program_leaves_no_lock() {
    let server = Server::start();
    let name = unique("no-start");
    for options in [&["--ttl", "1h"], &["--min-hold", "1h"]] {
        Rlock::on(&server, &[&["run", &name], &options[..], &["--", "no-such-program"]].concat())
            .exit()
            .assert(127, &[]);
        assert!(Observer::of(&server).look(&name).is_free(), "{options:?}");
    }
}

#[test]
fn events_are_printed_as_json() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let name = unique("so \"named\"");
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    let mut waiter = Rlock::on(&server, &["run", &name, "--json", "--ttl", "1m", "--", "sleep", "600"]);
    let waiting = json(&waiter.hear("waiting").1);
    assert_eq!(waiting["event"], "waiting");
    assert_eq!(
        (&waiting["name"], &waiting["holders"], &waiting["queue"]),
        (&name.as_str().into(), &1.into(), &1.into())
    );
    holder.exit().assert(0, &["released"]);
    let acquired = json(&waiter.hear("acquired").1);
    assert_eq!(acquired["token"], observer.holder(&name).unwrap().token.get());
    assert!(acquired["message"].as_str().unwrap().starts_with(&format!("acquired {name}")), "{acquired}");
    observer.break_lock(&name);
    let exited = waiter.exit();
    exited.assert(76, &[]);
    let events: Vec<_> = exited.stderr.lines().map(json).collect();
    let lost = events.iter().find(|event| event["event"] == "lost").unwrap_or_else(|| panic!("{events:?}"));
    assert_eq!(lost["name"], name.as_str());
    // "gone" if the answer to the first extension comes before the word of the break.
    assert!(["broken", "gone"].iter().any(|reason| lost["reason"] == *reason), "{lost}");
    assert!(lost["time"].as_str().unwrap().ends_with('Z'), "{lost}");
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn closed_pipe_ends_the_program_not_the_lock() {
    let server = Server::start();
    let name = unique("pipe");
    let script = "\"$RLOCK\" run \"$0\" -- yes | head -n 1; \"$RLOCK\" run \"$0\" --try -- echo free";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, &name]).env("RLOCK", env!("CARGO_BIN_EXE_rlock")).env("RLOCK_URL", url(&server));
    let exited = Rlock::start(&mut command).exit();
    exited.assert(0, &["released"]);
    assert_eq!(exited.stdout, "y\nfree\n");
}

#[test]
fn closed_standard_error_changes_nothing() {
    let server = Server::start();
    let name = unique("deaf");
    let script = "\"$RLOCK\" run \"$0\" -- sh -c 'echo ran; exit 7' 2>&-; echo $?";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, &name]).env("RLOCK", env!("CARGO_BIN_EXE_rlock")).env("RLOCK_URL", url(&server));
    assert_eq!(Rlock::start(&mut command).exit().stdout, "ran\n7\n");
}

#[test]
fn minimum_hold_survives_the_end_of_rlock() {
    const HOLD: Duration = Duration::from_secs(4);
    let server = Server::start_durable();
    // Returns the instant of the grant.
    let run_until = |signal: Signal, name: &str, min_hold: &str| {
        let folder = Folder::new();
        let options = ["--ttl", SHORT_TTL, "--min-hold", min_hold];
        let script = folder.script("echo > $D/ready; exec sleep 600");
        let mut running = Rlock::run_script(&server, name, &options, &script);
        let (acquired, _) = running.hear("acquired");
        folder.wait_for("ready", 1);
        running.signal(signal);
        running.exit().assert(128 + signal as i32, &[]);
        acquired
    };
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let name = unique("rest");
        run_until(signal, &name, "10m");
        let longer_than_the_ttl = ["run", &name, "--wait", "3s", "--", "true"];
        Rlock::on(&server, &longer_than_the_ttl).exit().assert(75, &["gave up on"]);

        let name = unique("rest");
        let acquired = run_until(signal, &name, "4s");
        Rlock::on(&server, &["run", &name, "--", "true"]).exit().assert(0, &[]);
        let held = acquired.elapsed() + Duration::from_millis(100);
        assert!(held >= HOLD, "{held:?} after {signal}");
    }
}
