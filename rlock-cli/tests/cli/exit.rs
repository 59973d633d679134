//! Exit statuses and their messages.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Server;
use crate::support::{Folder, Rlock, Store as _, rlock, unique, url};

#[test]
fn status_is_the_programs_or_the_failures() {
    let server = Server::start();
    let folder = Folder::new();
    fs::write(folder.path("text"), "not a program").unwrap();
    let text = folder.path("text").display().to_string();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["true"], 0, "released"),
        (&["sh", "-c", "exit 7"], 7, "released"),
        (&["sh", "-c", "exit 255"], 255, "released"),
        (&["sh", "-c", "kill -TERM $$"], 143, "released"),
        (&["sh", "-c", "kill -KILL $$"], 137, "released"),
        (&["sh", "-c", "kill -40 $$"], 168, "released"),
        (&[&text], 126, "check that it is an executable file"),
        (&["/"], 126, "check that it is an executable file"),
        (&["no-such-program"], 127, "check the name, the PATH"),
        (&["/no/such/program"], 127, "check the name, the PATH"),
        (&["true && true"], 127, "for shell code: -- sh -c"),
    ];
    for (program, status, said) in cases {
        let name = unique("status");
        let exited = Rlock::on(&server, &[&["run", &name, "--"], *program].concat()).exit();
        exited.assert(*status, &[&format!("rlock: acquired {name} (token "), said]);
        Rlock::on(&server, &["run", &name, "--try", "--", "true"]).exit().assert(0, &[]);
    }
}

#[test]
fn wrong_usage_is_64_with_a_remedy() {
    let long = "x".repeat(513);
    let of_store = |rest: &str| format!("{}://{rest}", Server::SCHEME);
    let (down, misspelt) = (of_store("127.0.0.1:1"), of_store("u:hunter2@h?tiemout=1s"));
    let url = ["--url", &down];
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage: rlock"),
        (&["frobnicate"], "unrecognized subcommand"),
        (&["run", "x", "--url", "", "--", "true"], "the URL is empty"),
        (&["run", "x", url[0], url[1]], "-- PROGRAM"),
        (&["run", "x", url[0], url[1], "true"], "put -- before the program"),
        (&["elect", "x", url[0], url[1], "true"], "put -- before the program: rlock elect"),
        (&["run", "--url", &down, "--", "true"], "Usage: rlock run"),
        (&["acquire", "--url", &down], "give the NAME of one lock"),
        (&["run", "x", "-n", "true"], "-n of flock is --try"),
        (&["run", "x", "-w", "5", "--", "true"], "is --wait TIME"),
        (&["run", "x", "-E", "5", "--", "true"], "is --conflict-status N"),
        (&["run", "x", "-c", "true"], "is -- sh -c 'COMMAND'"),
        (&["run", "x", "-s", "--", "true"], "-s of flock is --shared"),
        (&["run", "x", "-x", "--", "true"], "-x of flock is --exclusive"),
        (&["run", "x", "-o", "--", "true"], "-o of flock is --wait-for program"),
        (&["run", "x", "-u", "--", "true"], "-u of flock is rlock release HANDLE"),
        (&["run", "x", url[0], url[1], "--try", "--wait", "1s", "--", "true"], "cannot be used with"),
        (&["run", "x", url[0], url[1], "--ttl", "30", "--", "true"], "write a number and a unit: 500ms, 30s, 5m"),
        (&["run", "x", url[0], url[1], "--wait", "soon", "--", "true"], "write a number and a unit: 500ms, 30s, 5m"),
        (
            &["run", "x", url[0], url[1], "--ttl", "0s", "--", "true"],
            "a TTL of 0s cannot be used: choose one from 10ms to 365 days",
        ),
        (&["run", "x", url[0], url[1], "--ttl", "2y", "--", "true"], "choose one from 10ms"),
        (&["run", "", url[0], url[1], "--", "true"], "give it 1 to 512 bytes"),
        (&["run", "a\nb", url[0], url[1], "--", "true"], "remove or escape it"),
        (&["run", &long, url[0], url[1], "--", "true"], "shorten or hash it"),
        (&["run", "x", "--url", "memory:", "--", "true"], "name one that all can reach"),
        (&["run", "x", "--url", "localhost", "--", "true"], "redis://HOST:PORT"),
        (&["run", "x", "--url", "mysql://localhost", "--", "true"], "redis://HOST:PORT"),
        (&["run", "x", "--url", &misspelt, "--", "true"], "unknown option"),
    ];
    for (arguments, said) in cases {
        let exited = Rlock::start(&mut rlock(arguments)).exit();
        exited.assert(64, &[said]);
        assert!(!exited.stderr.contains("hunter2"), "{}", exited.stderr);
    }
}

#[test]
fn wrong_url_has_its_own_event() {
    let url = format!("{}://h?tiemout=1s", Server::SCHEME);
    for command in [&["run", "x"][..], &["acquire", "x"], &["elect", "x"]] {
        let program: &[&str] = if command[0] == "acquire" { &[] } else { &["--", "true"] };
        let arguments = [command, &["--url", &url, "--json"], program].concat();
        let exited = Rlock::start(&mut rlock(&arguments)).exit();
        exited.assert(64, &["\"event\":\"wrong_usage\"", "\"exit\":64"]);
    }
}

#[test]
fn each_end_has_its_own_event() {
    let server = Server::start();
    let name = unique("ends");
    let run = |rest: &[&str]| Rlock::on(&server, &[&["run", &name, "--json"][..], rest].concat());
    let not_started = run(&["--", "no-such-program"]).exit();
    not_started.assert(127, &["\"event\":\"not_started\"", "\"exit\":127"]);
    let overdue = run(&["--max-hold", "300ms", "--", "sleep", "600"]).exit();
    overdue.assert(77, &["\"event\":\"overdue\"", "\"event\":\"ended\""]);
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    let timed_out = run(&["--wait", "3s", "--", "true"]).exit();
    timed_out.assert(75, &["\"event\":\"timed_out\"", "\"exit\":75"]);
    let plain = "a plain lock, not one of --shared and --exclusive";
    run(&["--shared", "--", "true"]).exit().assert(69, &["\"event\":\"other_kind\"", "\"exit\":69", plain]);
    let nested = Rlock::start(
        rlock(&["run", &unique("outer"), "--", "sh", "-c", "exec \"$RLOCK\" run \"$RLOCK_NAME\" --json -- true"])
            .env("RLOCK_URL", url(&server))
            .env("RLOCK", env!("CARGO_BIN_EXE_rlock")),
    );
    nested.exit().assert(64, &["\"event\":\"nested\"", "\"exit\":64"]);
    let mut waiter = run(&["--", "true"]);
    waiter.hear("\"event\":\"waiting\"");
    waiter.signal(Signal::SIGTERM);
    waiter.exit().assert(143, &["\"event\":\"interrupted\"", "\"exit\":143"]);
    holder.exit().assert(0, &["released"]);
}

#[test]
fn help_and_version_go_to_standard_output() {
    let cases: &[(&[&str], &str)] = &[
        (&["--help"], "show"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["run", "--help"], "76  the lock was lost"),
        (&["show", "--help"], "remaining_ms"),
        (&["man"], ".TH rlock"),
        (&["completions", "bash"], "complete -F _rlock"),
        (&["completions", "fish"], "__fish_rlock"),
    ];
    for (arguments, said) in cases {
        let exited = Rlock::start(rlock(arguments).env("RLOCK_URL", "redis://user:hunter2@host")).exit();
        exited.assert(0, &[]);
        assert!(exited.stdout.contains(said) && !exited.stdout.contains("hunter2"), "{}", exited.stdout);
    }
}

#[test]
fn taken_lock_is_75_with_try_and_wait() {
    let server = Server::start();
    let name = unique("held");
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    let exited = Rlock::on(&server, &["run", &name, "--try", "--", "echo", "ran"]).exit();
    exited.assert(75, &[&format!("{name} is held by "), "leave out --try to wait"]);
    assert_eq!(exited.stdout, "");
    let started = Instant::now();
    let exited = Rlock::on(&server, &["run", &name, "--wait", "4s", "--", "echo", "ran"]).exit();
    let (waiting, gave_up) = (format!("waiting for {name}, held by "), format!("gave up on {name} after "));
    exited.assert(75, &[&waiting, &gave_up, "it is held by "]);
    assert!(started.elapsed() >= Duration::from_secs(4));
    assert_eq!(exited.stdout, "");
    let own = ["run", &name, "--try", "--conflict-status", "5", "--json", "--", "true"];
    let exited = Rlock::on(&server, &own).exit();
    exited.assert(5, &["\"event\":\"busy\"", "\"exit\":5"]);
    holder.exit().assert(0, &["released"]);
    let exited = Rlock::on(&server, &["run", &name, "--try", "--json", "--", "sh", "-c", "exit 75"]).exit();
    exited.assert(75, &["\"event\":\"ended\"", "\"status\":75"]);
}

#[test]
fn limit_of_open_files_is_71_before_locking() {
    let server = Server::start();
    let name = unique("limit");
    for limit in [5, 8, 10, 12, 14, 16, 18, 20, 22] {
        let script = format!("ulimit -n {limit}; exec \"$0\" run {name} --ttl 1h --json -- true");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_rlock")]).env("RLOCK_URL", url(&server));
        Rlock::start(&mut command).exit().assert(71, &["open files", "\"event\":\"refused\"", "\"exit\":71"]);
        Rlock::on(&server, &["run", &name, "--try", "--", "true"]).exit().assert(0, &[]);
    }
}

#[test]
fn nothing_is_said_quietly_but_trouble() {
    let server = Server::start();
    let name = unique("quiet");
    let exited = Rlock::on(&server, &["run", &name, "--quiet", "--", "true"]).exit();
    assert_eq!((exited.status, &*exited.stderr), (Some(0), ""));
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    Rlock::on(&server, &["run", &name, "-q", "--try", "--", "true"]).exit().assert(75, &["held by"]);
    holder.exit().assert(0, &["released"]);
}
