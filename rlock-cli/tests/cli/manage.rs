//! `rlock list`, `rlock watch`, `rlock wait`, `rlock break` and `rlock check`.

use nix::sys::signal::Signal;
use rlock_testkit::faults::Control as _;
use serde_json::{Value, json};

use super::Server;
use crate::support::{Folder, Observer, Rlock, rlock, unique, url, wait_for};

#[test]
fn locks_are_listed_by_their_prefix() {
    let server = Server::start();
    let prefix = unique("listed");
    let names = ["b", "a"].map(|name| format!("{prefix}/{name}"));
    let mut holders = Vec::new();
    for name in &names {
        let mut holder = Rlock::on(&server, &["run", name, "--", "cat"]);
        holder.hear("acquired");
        holders.push(holder);
    }
    let waiter = Rlock::on(&server, &["run", &names[0], "--", "true"]);
    Observer::of(&server).wait_for_queue(&names[0], 1);

    let listed = Rlock::on(&server, &["list", &format!("{prefix}/")]).exit();
    listed.assert(0, &[]);
    let mut lines: Vec<_> = listed.stdout.lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "   HELD  QUEUED  NAME");
    lines.sort();
    assert_eq!(lines, [format!("      1       0  {}", names[1]), format!("      1       1  {}", names[0])]);

    let listed = Rlock::on(&server, &["list", "--json", &names[0]]).exit();
    let line: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(line, json!({ "name": names[0], "holders": 1, "waiters": 1 }));
    let listed = Rlock::on(&server, &["list", &unique("none")]).exit();
    assert_eq!((listed.status, &*listed.stdout), (Some(0), ""));
    for holder in holders {
        holder.exit().assert(0, &["released"]);
    }
    waiter.exit().assert(0, &["released"]);
}

#[test]
fn watch_goes_on_through_an_outage() {
    let server = Server::start_durable();
    let prefix = unique("outage");
    let names = ["before", "after"].map(|name| format!("{prefix}/{name}"));
    let hold = |name: &str| {
        let mut holder = Rlock::on(&server, &["run", name, "--ttl", "10m", "--", "cat"]);
        holder.hear("acquired");
        holder
    };
    let first = hold(&names[0]);
    let mut watching = Rlock::on(&server, &["watch", &prefix, "--json", "--interval", "100ms"]);
    watching.hear_printed(&names[0]);
    wait_for(server.pause());
    watching.hear("looking again");
    wait_for(server.resume());
    let second = hold(&names[1]);
    watching.hear_printed(&names[1]);
    watching.signal(Signal::SIGTERM);
    watching.exit().assert(0, &[]);
    for holder in [first, second] {
        holder.exit().assert(0, &["released"]);
    }
}

#[test]
fn wait_goes_on_through_an_outage() {
    let server = Server::start_durable();
    let name = unique("awaited");
    let mut holder = Rlock::on(&server, &["run", &name, "--ttl", "10m", "--", "cat"]);
    holder.hear("acquired");
    let mut waiting = Rlock::on(&server, &["wait", &name, "--json"]);
    waiting.hear("\"event\":\"waiting\"");
    wait_for(server.pause());
    waiting.hear("\"event\":\"unavailable\"");
    wait_for(server.resume());
    holder.exit().assert(0, &["released"]);
    waiting.exit().assert(0, &[]);
}

#[test]
fn wait_for_a_silent_store_is_69() {
    let server = Server::start_durable();
    let name = unique("awaited");
    let mut holder = Rlock::on(&server, &["run", &name, "--ttl", "10m", "--", "cat"]);
    holder.hear("acquired");
    let mut waiting = Rlock::on(&server, &["wait", &name, "--wait", "8s", "--json"]);
    waiting.hear("\"event\":\"waiting\"");
    wait_for(server.pause());
    let exited = waiting.exit();
    wait_for(server.resume());
    exited.assert(69, &[]);
    assert!(!exited.stderr.contains("did not become free"), "{}", exited.stderr);
    holder.exit().assert(0, &["released"]);
}

#[test]
fn wait_ends_with_freedom_or_timeout() {
    let server = Server::start();
    let name = unique("awaited");
    Rlock::on(&server, &["wait", &name]).exit().assert(0, &[]);
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    let late = Rlock::on(&server, &["wait", &name, "--wait", "200ms", "--json"]).exit();
    late.assert(75, &["\"event\":\"late\"", "did not become free within 200ms"]);
    let waiting = Rlock::on(&server, &["wait", &name]);
    holder.exit().assert(0, &["released"]);
    waiting.exit().assert(0, &[]);
}

#[test]
fn break_ends_the_program_and_starts_the_next() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("broken");
    Rlock::on(&server, &["break", &name]).exit().assert(0, &[&format!("{name} has no holder")]);
    let script = folder.script("echo > $D/ready; sleep 600");
    let holder = Rlock::run_script(&server, &name, &["--ttl", "1m"], &script);
    folder.wait_for("ready", 1);
    let next = Rlock::on(&server, &["run", &name, "--", "true"]);
    observer.wait_for_queue(&name, 1);
    Rlock::on(&server, &["break", &name]).exit().assert(0, &[&format!("broke {name}")]);
    holder.exit().assert(76, &["it was broken by force"]);
    next.exit().assert(0, &["released"]);

    let broken = Rlock::on(&server, &["break", "--json", &name]).exit();
    let event: Value = serde_json::from_str(&broken.stderr).unwrap();
    assert_eq!((&event["event"], &event["name"], &event["holders"]), (&json!("broken"), &json!(name), &json!(0)));
}

#[cfg(feature = "suite")]
#[test]
fn check_runs_the_suite_on_the_store() {
    use crate::support::Store as _;

    let server = Server::start_durable();
    let cases = ["fifo_across_clients", "namespaces_are_apart", "nothing_is_left_behind"].map(|case| ["--case", case]);
    let checked = Rlock::on(&server, &[&["check", "--json"][..], &cases.concat()].concat()).exit();
    let lines: Vec<Value> = checked.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of =
        |subject: &str| lines.iter().find(|line| line["subject"] == subject).unwrap_or_else(|| panic!("{lines:?}"));
    assert!(of("reachable")["text"].as_str().unwrap().starts_with(Server::SCHEME), "{lines:?}");
    assert!(of("round trip")["text"].as_str().unwrap().contains("at the median"), "{lines:?}");
    assert!(of("version")["text"].as_str().unwrap().contains('.'), "{lines:?}");
    assert_eq!(of("suite")["verdict"], "good");
    assert!(of("suite")["text"].as_str().unwrap().starts_with("3 cases passed"), "{lines:?}");
    let is_risk = lines.iter().any(|line| line["verdict"] == "risk");
    checked.assert(i32::from(is_risk), &[]);
    assert_eq!(server.left_by_check(), Vec::<String>::new());

    let quick = Rlock::start(&mut rlock(&["check", "--no-suite", &url(&server)])).exit();
    assert!(quick.stdout.starts_with("good  reachable"), "{}", quick.stdout);
    assert!(!quick.stdout.contains("cases"), "{}", quick.stdout);
    Rlock::on(&server, &["check", "--case", "no_such"]).exit().assert(64, &["there is no case", "fifo_across_clients"]);
}

#[test]
fn full_disk_is_74() {
    let server = Server::start();
    let name = unique("full");
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    for command in [&["list"][..], &["show", &name], &["show", "--json", &name], &["list", "--json"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let printed = rlock(command).env("RLOCK_URL", url(&server)).stdout(full).output().unwrap();
        assert_eq!(printed.status.code(), Some(74), "{command:?}");
        assert!(String::from_utf8_lossy(&printed.stderr).contains("could not be written"));
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let name = unique("lost-handle");
    let acquired = rlock(&["acquire", &name]).env("RLOCK_URL", url(&server)).stdout(full).output().unwrap();
    assert_eq!(acquired.status.code(), Some(74));
    Rlock::on(&server, &["run", &name, "--try", "--", "true"]).exit().assert(0, &[]);
    holder.exit().assert(0, &["released"]);
}
