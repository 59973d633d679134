//! The kinds of locks that `rlock run` takes, and its options for keeping them.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Server;
use crate::support::{Folder, Observer, Rlock, SHORT_TTL, rlock, unique, until, url};

#[test]
fn shared_locks_overlap_and_exclusive_ones_do_not() {
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
fn dead_reader_is_not_renewed_by_others() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let name = unique("readers");
    let read = |options: &[&str]| {
        let mut reader = Rlock::on(&server, &[&["run", &name, "--shared"][..], options, &["--", "cat"]].concat());
        reader.hear("acquired");
        reader
    };
    let (dead, alive) = (read(&["--ttl", SHORT_TTL]), read(&["--ttl", "1m", "--interval", "100ms"]));
    let writer = Rlock::on(&server, &["run", &name, "--exclusive", "--", "true"]);
    observer.wait_for_queue(&name, 1);
    dead.signal(Signal::SIGKILL);
    let left = until("the end of the dead reader's lease", || {
        let holders = observer.look(&name).holders;
        (holders.len() == 1).then(|| holders[0].owner.process())
    });
    assert_eq!(left, alive.pid().as_raw().cast_unsigned());
    alive.exit().assert(0, &["released"]);
    writer.exit().assert(0, &["released"]);
}

#[test]
fn slots_limit_the_number_of_programs() {
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
    other.assert(75, &["held with --slots 3"]);
    let other = Rlock::on(&server, &["run", &name, "--shared", "--", "true"]).exit();
    other.assert(69, &[&format!("{name} is a lock with --slots 3")]);
    holders.pop().unwrap().exit().assert(0, &["released"]);
    Rlock::on(&server, &["run", &name, "--slots", "3", "--try", "--", "true"]).exit().assert(0, &["released"]);
    for holder in holders {
        holder.exit().assert(0, &["released"]);
    }
}

#[test]
fn skip_exits_with_0_on_a_taken_lock() {
    let server = Server::start();
    let name = unique("skipped");
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    for patience in [&["--try"][..], &["--wait", "2s"]] {
        let skipped =
            Rlock::on(&server, &[&["run", &name, "--skip-ok"], patience, &["--", "echo", "ran"]].concat()).exit();
        skipped.assert(0, &[]);
        let is_routine = |line: &str| line.starts_with(&format!("rlock: waiting for {name}")) && patience.len() == 2;
        assert!(skipped.stderr.lines().all(is_routine), "{}", skipped.stderr);
        assert_eq!(skipped.stdout, "");
    }
    holder.exit().assert(0, &["released"]);
}

#[test]
fn lock_stays_taken_after_a_short_program() {
    const WHILE: Duration = Duration::from_secs(2);
    let server = Server::start();
    let name = unique("kept");
    let started = Instant::now();
    let mut first = Rlock::on(&server, &["run", &name, "--min-hold", "2s", "--json", "--", "true"]);
    first.hear("\"event\":\"keeping\"");
    Rlock::on(&server, &["run", &name, "--", "true"]).exit().assert(0, &["released"]);
    assert!(started.elapsed() >= WHILE);
    first.exit().assert(0, &["released"]);
}

#[test]
fn refusal_names_the_minimum_hold() {
    let server = Server::start();
    let name = unique("rested");
    let first = ["run", &name, "--min-hold", "10m", "--", "true"];
    Rlock::on(&server, &first).exit().assert(0, &["keeping", "released"]);
    Rlock::on(&server, &["run", &name, "--try", "--", "true"]).exit().assert(75, &["(minimum hold)"]);
    let shown = Rlock::on(&server, &["show", &name]).exit();
    assert!(shown.stdout.contains("its minimum hold ends in"), "{}", shown.stdout);
}

#[test]
fn other_number_of_slots_waits_for_current_users() {
    let server = Server::start();
    let name = unique("rolling");
    let mut holder = Rlock::on(&server, &["run", &name, "--slots", "3", "--", "cat"]);
    holder.hear("acquired");
    let mut next = Rlock::on(&server, &["run", &name, "--slots", "5", "--wait", "1m", "--", "true"]);
    next.hear("held with --slots 3");
    Rlock::on(&server, &["run", &name, "--slots", "5", "--wait", "2s", "--", "true"]).exit().assert(75, &[]);
    holder.exit().assert(0, &["released"]);
    next.exit().assert(0, &["acquired", "released"]);
}

#[test]
fn program_that_holds_for_too_long_is_ended() {
    let server = Server::start();
    let name = unique("long");
    // The program ignores TERM from the start, however long its start takes.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "trap '' TERM; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_rlock"), "run", &name]);
    command.args(["--max-hold", "300ms", "--kill-after", "100ms", "--", "sh", "-c", "setsid sleep 600 & sleep 600"]);
    let exited = Rlock::start(command.env("RLOCK_URL", url(&server))).exit();
    exited.assert(77, &["for the time of --max-hold", "killed the program", "released"]);
    Rlock::on(&server, &["run", &name, "--try", "--max-hold", "1m", "--", "true"]).exit().assert(0, &[]);
}

#[test]
fn nested_run_of_the_same_lock_is_refused() {
    let server = Server::start();
    let name = unique("nested");
    let inside = |outer: &[&str], inner: &str| {
        let script = format!("\"$RLOCK\" {inner}");
        let mut command = rlock(&[&["run", &name], outer, &["--", "sh", "-c", &script]].concat());
        Rlock::start(command.env("RLOCK_URL", url(&server)).env("RLOCK", env!("CARGO_BIN_EXE_rlock"))).exit()
    };
    inside(&[], &format!("run {name} -- true")).assert(64, &["held by the rlock run that this one runs in"]);
    inside(&["--exclusive"], &format!("run {name} --shared -- true")).assert(64, &["this one runs in"]);
    inside(&["--slots", "1"], &format!("run {name} --slots 1 -- true")).assert(64, &["this one runs in"]);
    inside(&[], &format!("wait {name}")).assert(64, &["this one runs in"]);
    inside(&[], &format!("run {name} --try -- true")).assert(75, &["held by"]);
    inside(&["--shared"], &format!("run {name} --shared -- true")).assert(0, &[]);
    inside(&[], &format!("run {name}-other -- true")).assert(0, &[]);
}

#[test]
fn losing_the_first_lock_ends_the_wait() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let (a, b) = (unique("first-a"), unique("first-b"));
    let mut holder = Rlock::on(&server, &["run", &b, "--", "cat"]);
    holder.hear("acquired");
    let mut waiter = Rlock::on(&server, &["run", &a, "--name", &b, "--ttl", "1m", "--", "true"]);
    observer.wait_for_queue(&b, 1);
    waiter.hear("waiting");
    observer.break_lock(&a);
    waiter.exit().assert(76, &[&format!("lost {a}"), &format!("while waiting for {b}")]);
    assert_eq!(observer.look(&b).queue, []);
    holder.exit().assert(0, &["released"]);
}

#[test]
fn interval_without_time_for_failures_is_refused() {
    let server = Server::start();
    let name = unique("interval");
    let run =
        |interval| Rlock::on(&server, &["run", &name, "--ttl", "4s", "--interval", interval, "--", "true"]).exit();
    run("500ms").assert(0, &["released"]);
    run("2s").assert(0, &["released"]);
    run("2001ms").assert(64, &["half of the TTL"]);
    run("0s").assert(64, &["from 1ms"]);
}

#[test]
fn program_that_ignores_sigterm_is_killed() {
    let server = Server::start();
    let folder = Folder::new();
    let script = folder.script("trap '' TERM; echo > $D/ready; while :; do sleep 0.01; done");
    let running = Rlock::run_script(&server, &unique("forced"), &["--kill-after", "200ms"], &script);
    folder.wait_for("ready", 1);
    running.signal(Signal::SIGTERM);
    running.exit().assert(137, &["killed the program", "released"]);
}

#[test]
fn lost_program_is_killed_or_goes_on() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let script = folder
        .script("trap 'echo term > $D/got' TERM; echo > $D/ready; until [ -e $D/end ]; do sleep 0.01; done; exit 7");
    for (on_lost, status, said) in [("kill", 76, "killed the program"), ("ignore", 7, "the program goes on")] {
        let name = unique("lost");
        let mut running = Rlock::run_script(&server, &name, &["--on-lost", on_lost, "--ttl", "1m"], &script);
        folder.wait_for("ready", 1);
        observer.break_lock(&name);
        running.hear(said);
        std::fs::write(folder.path("end"), "").unwrap();
        running.exit().assert(status, &["it was broken by force"]);
        assert_eq!(folder.read("got"), "");
        std::fs::remove_file(folder.path("ready")).unwrap();
        std::fs::remove_file(folder.path("end")).unwrap();
    }
}

#[test]
fn several_locks_are_taken_in_name_order() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let (a, b) = (unique("several-a"), unique("several-b"));
    let script = "echo \"$RLOCK_NAME\"; echo \"$RLOCK_TOKEN\"; cat";
    let mut both = Rlock::run_script(&server, &b, &["--name", &a, "--name", &b], script);
    both.hear(&format!("acquired {a}"));
    both.hear(&format!("acquired {b}"));
    for name in [&a, &b] {
        Rlock::on(&server, &["run", name, "--try", "--", "true"]).exit().assert(75, &[]);
    }
    let tokens = [&a, &b].map(|name| observer.holder(name).unwrap().token.to_string());
    let exited = both.exit();
    exited.assert(0, &[&format!("released {a}, {b}")]);
    assert_eq!(exited.stdout.lines().collect::<Vec<_>>(), [&*a, &*b, &*tokens[0], &*tokens[1]]);

    // A run that does not get all of its locks releases those that it has.
    let mut holder = Rlock::on(&server, &["run", &b, "--", "cat"]);
    holder.hear("acquired");
    Rlock::on(&server, &["run", &a, "--name", &b, "--wait", "2s", "--", "true"]).exit().assert(75, &[]);
    Rlock::on(&server, &["run", &a, "--try", "--", "true"]).exit().assert(0, &[]);
    holder.exit().assert(0, &["released"]);
}

#[test]
fn one_of_several_tries_gets_all_locks() {
    const RUNS: usize = 8;
    let server = Server::start();
    let (a, b) = (unique("tried-a"), unique("tried-b"));
    let both = ["run", &b, "--name", &a, "--try", "--", "cat"];
    let mut runs: Vec<_> = (0..RUNS).map(|_| Rlock::on(&server, &both)).collect();
    until("the end of the refused runs", || {
        let ended = runs.iter_mut().map(Rlock::has_ended).filter(|has_ended| *has_ended).count();
        (ended >= RUNS - 1).then_some(())
    });
    let exited: Vec<_> = runs.into_iter().map(Rlock::exit).collect();
    let with = |status| exited.iter().filter(|exited| exited.status == Some(status)).count();
    assert_eq!((with(0), with(75)), (1, RUNS - 1), "{exited:?}");
}

#[test]
fn waiting_run_claims_no_later_lock() {
    let server = Server::start();
    let (a, b) = (unique("claimed-a"), unique("claimed-b"));
    let mut first = Rlock::on(&server, &["run", &a, "--", "cat"]);
    first.hear("acquired");
    // The store refuses a claim of another kind at once.
    let mut later = Rlock::on(&server, &["run", &b, "--shared", "--", "cat"]);
    later.hear("acquired");
    let mut both = Rlock::on(&server, &["run", &a, "--name", &b, "--", "true"]);
    both.hear(&format!("waiting for {a},"));
    later.exit().assert(0, &["released"]);
    first.exit().assert(0, &["released"]);
    both.exit().assert(0, &[&format!("released {a}, {b}")]);
}

#[test]
fn run_without_all_locks_leaves_no_rest() {
    let server = Server::start();
    let (a, b) = (unique("unused-a"), unique("unused-b"));
    let mut holder = Rlock::on(&server, &["run", &b, "--", "cat"]);
    holder.hear("acquired");
    let both = ["run", &a, "--name", &b, "--min-hold", "10m"];
    let ends = [(&["--try"][..], format!("{b} is held by")), (&["--wait", "2s"][..], format!("gave up on {b}"))];
    for (patience, end) in ends {
        Rlock::on(&server, &[&both[..], patience, &["--", "true"]].concat()).exit().assert(75, &[&end]);
        Rlock::on(&server, &["run", &a, "--try", "--", "true"]).exit().assert(0, &["released"]);
    }
    holder.exit().assert(0, &["released"]);
}

#[test]
fn loss_of_one_lock_ends_the_program() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let (a, b) = (unique("one-a"), unique("one-b"));
    let script = folder.script("echo > $D/ready; sleep 600");
    let running = Rlock::run_script(&server, &a, &["--name", &b, "--ttl", "1m"], &script);
    folder.wait_for("ready", 1);
    observer.break_lock(&b);
    running.exit().assert(76, &[&format!("lost {b}: it was broken by force")]);
    Rlock::on(&server, &["run", &a, "--try", "--", "true"]).exit().assert(0, &[]);
}
