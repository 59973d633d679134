//! `rlock show`.

use serde_json::{Value, json};

use super::Server;
use crate::support::{Observer, Rlock, unique, url};

fn show(server: &Server, name: &str) -> String {
    let exited = Rlock::on(server, &["show", name]).exit();
    exited.assert(0, &[]);
    assert_eq!(exited.stderr, "");
    exited.stdout
}

fn show_json(server: &Server, name: &str) -> Value {
    let exited = Rlock::on(server, &["show", name, "--json"]).exit();
    exited.assert(0, &[]);
    serde_json::from_str(&exited.stdout).unwrap()
}

#[test]
fn a_free_lock() {
    let server = Server::start();
    let name = unique("free");
    assert_eq!(show(&server, &name), format!("{name} is free\n"));
    let expected =
        json!({ "name": name, "state": "free", "rest_ms": null, "capacity": null, "holders": [], "queue": [] });
    assert_eq!(show_json(&server, &name), expected);
}

#[test]
fn a_held_lock_and_its_queue() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let name = unique("held");
    let mut holder = Rlock::on(&server, &["run", &name, "--ttl", "1m", "--label", "night shift", "--", "cat"]);
    holder.hear("acquired");
    let waiters: Vec<_> = (1..=2)
        .map(|place| {
            let waiter = Rlock::on(&server, &["run", &name, "--", "/bin/true"]);
            observer.wait_for_queue(&name, place);
            waiter
        })
        .collect();

    let seen = show_json(&server, &name);
    let held = &seen["holders"][0];
    assert_eq!((&seen["name"], &seen["state"], &seen["capacity"]), (&json!(name), &json!("held"), &json!(1)));
    assert_eq!(seen["holders"].as_array().unwrap().len(), 1);
    assert_eq!(held["process"], json!(holder.pid().as_raw()));
    assert_eq!(held["host"], json!(observer.holder(&name).unwrap().owner.host()));
    assert_eq!(held["label"], json!("night shift"));
    assert_eq!(held["token"], json!(observer.holder(&name).unwrap().token.get()));
    assert_eq!(held["weight"], json!(1));
    assert!((1..=60_000).contains(&held["remaining_ms"].as_u64().unwrap()), "{held}");
    assert!(held["held_for_ms"].as_u64().unwrap() < 60_000, "{held}");
    assert!(held["since"].as_str().unwrap().ends_with('Z'), "{held}");
    for (waiter, queued) in waiters.iter().zip(seen["queue"].as_array().unwrap()) {
        assert_eq!(queued["process"], json!(waiter.pid().as_raw()));
        assert_eq!(queued["label"], json!("true"));
        assert!((1..=30_000).contains(&queued["remaining_ms"].as_u64().unwrap()), "{queued}");
        assert!(queued["waiting_for_ms"].as_u64().unwrap() < 60_000, "{queued}");
    }

    let text = show(&server, &name);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], format!("{name} is held"));
    let token = held["token"].to_string();
    let pids: Vec<_> = waiters.iter().map(|waiter| waiter.pid().to_string()).collect();
    let expected = [
        ["held", &holder.pid().to_string(), "night shift", &token],
        ["queued 1", &pids[0], "true", "-"],
        ["queued 2", &pids[1], "true", "-"],
    ];
    for (line, words) in lines[3..].iter().zip(expected) {
        assert!(line.starts_with(words[0]) && words.iter().all(|word| line.contains(word)), "{text}");
    }
    assert_eq!(lines.len(), 6, "{text}");

    holder.exit().assert(0, &[]);
    for waiter in waiters {
        waiter.exit().assert(0, &["released"]);
    }
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let server = Server::start();
    let exited = std::process::Command::new("sh")
        .args(["-c", "\"$0\" show x | true", env!("CARGO_BIN_EXE_rlock")])
        .env("RLOCK_URL", url(&server))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&exited.stderr), "");
}
