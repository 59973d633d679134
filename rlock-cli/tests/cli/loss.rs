//! The loss of the lock: the program is dead before another client can hold it.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use rlock_testkit::faults::{Control as _, Data};

use super::Server;
use super::signals::in_session;
use super::tree::keeper_of;
use crate::support::{Folder, Observer, Process, Rlock, SHORT_TTL, rlock, unique, until, url, wait_for};

const TTL: Duration = Duration::from_secs(4);

/// Freezes the server right after the lease of `name` was extended. Returns the first instant at which the lease can
/// have ended.
fn freeze_after_extension(server: &Server, observer: &Observer, name: &str) -> Instant {
    let mut earlier = None;
    let not_extended_before = until("an extension", || {
        let asked_at = Instant::now();
        let left = observer.holder(name)?.remaining; // some stores tell it in whole seconds
        let (earlier_at, earlier_left): (Instant, Duration) = earlier.replace((asked_at, left))?;
        let is_fresh = left > earlier_left + TTL / 10 && earlier_at.elapsed() < Duration::from_millis(20);
        is_fresh.then_some(earlier_at)
    });
    wait_for(server.pause());
    not_extended_before + TTL
}

/// The host and the port of a URL, or the path of a file.
fn place_of(url: &str) -> String {
    let (url, _options) = url.split_once('?').unwrap_or((url, ""));
    let Some((_, rest)) = url.split_once("://") else { return url.replacen("sqlite:", "", 1) };
    let host = rest.rsplit('@').next().and_then(|rest| rest.split('/').next());
    host.unwrap_or_default().to_owned()
}

#[test]
fn terminated_program_is_gone_before_the_lease_ends() {
    let server = Server::start_durable();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("frozen");
    let script =
        folder.script("trap 'echo term > $D/got; exit 0' TERM; echo $$ > $D/pid; while :; do sleep 0.01; done");
    let mut running = Rlock::run_script(&server, &name, &["--ttl", "4s"], &script);
    let program = folder.wait_for_process("pid");
    let lease_ends = freeze_after_extension(&server, &observer, &name);
    running.hear(&format!("losing {name} in "));
    let (ended, _) = running.hear("the program ended with status 0");
    assert!(ended < lease_ends, "{:?} too late", ended - lease_ends);
    assert!(!program.is_alive());
    assert_eq!(folder.read("got"), "term\n");
    running.exit().assert(76, &[]);
}

#[test]
fn group_that_ignores_sigterm_is_killed_in_time() {
    let server = Server::start_durable();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("stubborn");
    let script = folder.script(
        "trap '' TERM; sh -c 'echo $$ > '$D/inner'; exec sleep 600' & echo $$ > $D/pid; while :; do sleep 0.01; done",
    );
    let mut running = Rlock::run_script(&server, &name, &["--ttl", "4s", "--json"], &script);
    let (program, inner) = (folder.wait_for_process("pid"), folder.wait_for_process("inner"));
    let lease_ends = freeze_after_extension(&server, &observer, &name);
    running.hear("\"event\":\"losing\"");
    running.hear("\"event\":\"killed\"");
    let (ended, _) = running.hear("the program was ended by SIGKILL; ");
    assert!(ended < lease_ends, "{:?} too late", ended - lease_ends);
    assert!(!program.is_alive() && !inner.is_alive());
    running.exit().assert(76, &[]);
}

#[test]
fn descendants_are_killed_after_the_programs_end() {
    let server = Server::start_durable();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("orphans");
    let script = folder.script(
        "trap 'exit 0' TERM; (trap '' TERM; sh -c 'echo $$ > '$D/inner'; exec sleep 600') & echo $$ > $D/pid; wait",
    );
    let mut running = Rlock::run_script(&server, &name, &["--ttl", "4s"], &script);
    let (program, inner) = (folder.wait_for_process("pid"), folder.wait_for_process("inner"));
    let lease_ends = freeze_after_extension(&server, &observer, &name);
    let (ended, _) = running.hear("the program ended with status 0");
    assert!(ended < lease_ends, "{:?} too late", ended - lease_ends);
    assert!(!program.is_alive() && !inner.is_alive());
    running.exit().assert(76, &[]);
}

#[test]
fn unread_messages_do_not_delay_the_kill() {
    let server = Server::start_durable();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("unread");
    let script = folder.script("trap '' TERM; cat /dev/zero >&2 & echo $$ > $D/pid; while :; do sleep 0.01; done");
    let mut command = rlock(&["run", &name, "--ttl", "4s", "--", "sh", "-c", &script]);
    let (unread, stderr) = std::io::pipe().unwrap();
    let mut running = command.env("RLOCK_URL", url(&server)).stderr(stderr).spawn().unwrap();
    let program = folder.wait_for_process("pid");
    let lease_ends = freeze_after_extension(&server, &observer, &name);
    program.wait_until_dead();
    assert!(Instant::now() < lease_ends, "{:?} too late", lease_ends.elapsed());
    let status = until("the end of rlock", || running.try_wait().unwrap());
    assert_eq!(status.code(), Some(76));
    drop(unread);
}

#[test]
fn a_short_outage_costs_nothing() {
    let server = Server::start_durable();
    let observer = Observer::of(&server);
    let name = unique("outage");
    let mut running = Rlock::on(&server, &["run", &name, "--ttl", "20s", "--interval", "500ms", "--", "cat"]);
    running.hear("acquired");
    let token = observer.holder(&name).unwrap().token;
    wait_for(server.pause());
    std::thread::sleep(Duration::from_secs(2)); // four intervals
    wait_for(server.resume());
    assert_eq!(observer.holder(&name).unwrap().token, token);
    running.exit().assert(0, &["released"]);
}

#[test]
fn short_outage_loses_nothing_at_any_interval() {
    let server = Server::start_durable();
    let name = unique("impatient");
    let mut running = Rlock::on(&server, &["run", &name, "--ttl", "1m", "--interval", "50ms", "--", "cat"]);
    running.hear("acquired");
    wait_for(server.kill());
    std::thread::sleep(Duration::from_secs(1)); // twenty intervals
    wait_for(server.restart(Data::Kept));
    running.exit().assert(0, &["released"]);
}

#[test]
fn unconfirmed_release_keeps_the_status() {
    let server = Server::start_durable();
    let folder = Folder::new();
    let script = folder.script("echo > $D/ready; cat; exit 7");
    let name = unique("unconfirmed");
    let running = Rlock::run_script(&server, &name, &["--release-for", "1s"], &script);
    folder.wait_for("ready", 1);
    wait_for(server.pause());
    running.exit().assert(7, &[&format!("could not release {name}; it ends by itself in")]);
}

fn release_is_retried(stop: impl FnOnce(&Server), resume: impl FnOnce(&Server)) {
    let server = Server::start_durable();
    let folder = Folder::new();
    let name = unique("retried");
    let script = folder.script("echo > $D/ready; cat");
    let mut running = Rlock::run_script(&server, &name, &["--ttl", "10m"], &script);
    folder.wait_for("ready", 1);
    stop(&server);
    running.close_stdin();
    running.hear(&format!("could not release {name} yet"));
    resume(&server);
    running.exit().assert(0, &["released"]);
    Rlock::on(&server, &["run", &name, "--try", "--", "true"]).exit().assert(0, &[]);
}

#[test]
fn release_is_retried_until_the_store_answers() {
    release_is_retried(|server| wait_for(server.pause()), |server| wait_for(server.resume()));
}

#[test]
fn release_is_retried_until_the_store_accepts_connections() {
    release_is_retried(|server| wait_for(server.kill()), |server| wait_for(server.restart(Data::Kept)));
}

#[test]
fn late_answer_to_a_release_keeps_the_status() {
    let server = Server::start_durable();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("late");
    let script = folder.script("echo > $D/ready; cat; exit 7");
    let mut running = Rlock::run_script(&server, &name, &["--ttl", "4s", "--json"], &script);
    folder.wait_for("ready", 1);
    freeze_after_extension(&server, &observer, &name);
    running.close_stdin();
    running.hear("\"event\":\"ended\"");
    std::thread::sleep(TTL); // rlock waits for an answer for 5 s
    wait_for(server.resume());
    let exited = running.exit();
    exited.assert(7, &[]);
    assert!(!exited.stderr.contains("\"event\":\"lost\""), "{}", exited.stderr);
}

#[test]
fn release_that_was_not_confirmed_is_74() {
    let server = Server::start_durable();
    let folder = Folder::new();
    let script = folder.script("echo > $D/ready; cat");
    let options = ["--release-for", "0s", "--json"];
    let running = Rlock::run_script(&server, &unique("unconfirmed"), &options, &script);
    folder.wait_for("ready", 1);
    wait_for(server.pause());
    running.exit().assert(74, &["\"event\":\"not_released\"", "it ends by itself in"]);
}

#[test]
fn waiters_say_that_the_store_does_not_answer() {
    let server = Server::start_durable();
    let name = unique("waiting");
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    let mut patient = Rlock::on(&server, &["run", &name, "--ttl", "2s", "--", "true"]);
    patient.hear("waiting");
    let mut bounded = Rlock::on(&server, &["run", &name, "--wait", "8s", "--json", "--", "true"]);
    bounded.hear("waiting");
    let (gave_up, store) = (format!("gave up on {name} after "), place_of(&url(&server)));
    wait_for(server.kill());
    patient.hear("the store does not answer");
    bounded.exit().assert(69, &["\"event\":\"unavailable\"", "\"exit\":69", &gave_up, &store]);
    wait_for(server.restart(Data::Kept));
    patient.hear("the store answers again");
    patient.signal(Signal::SIGTERM);
    patient.exit().assert(143, &[]);
}

#[test]
fn wait_covers_a_store_that_is_down() {
    let server = Server::start_durable();
    let (name, url) = (unique("early"), url(&server));
    Rlock::on(&server, &["run", &unique("tables"), "--", "true"]).exit().assert(0, &[]); // a file has them from now on
    wait_for(server.kill());
    let mut waiter = Rlock::start(rlock(&["run", &name, "--wait", "1m", "--", "true"]).env("RLOCK_URL", url));
    waiter.hear("waiting for");
    wait_for(server.restart(Data::Kept));
    waiter.exit().assert(0, &["released"]);
}

#[test]
fn a_broken_lock_ends_the_program_at_once() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    for (trap, status) in [("exit 0", "ended with status 0"), ("", "was ended by SIGKILL")] {
        let name = unique("broken");
        let script = folder.script(&format!("trap '{trap}' TERM; echo $$ > $D/pid; while :; do sleep 0.01; done"));
        // The next extension, which would notice the loss as well, is minutes away.
        let mut running = Rlock::run_script(&server, &name, &["--ttl", "10m"], &script);
        let program = folder.wait_for_process("pid");
        observer.break_lock(&name);
        running.hear(&format!("lost {name}: it was broken by force"));
        running.hear(&format!("the program {status}"));
        assert!(!program.is_alive());
        running.exit().assert(76, &[]);
        std::fs::remove_file(folder.path("pid")).unwrap();
    }
}

#[test]
fn supervisor_frozen_past_the_ttl_kills_the_program() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("asleep");
    let script = folder.script("echo $$ > $D/pid; exec sleep 600");
    let running = Rlock::run_script(&server, &name, &["--ttl", SHORT_TTL], &script);
    let program = folder.wait_for_process("pid");
    running.signal(Signal::SIGSTOP);
    until("the end of the lease", || observer.look(&name).is_free().then_some(()));
    running.signal(Signal::SIGCONT);
    // rlock hears first of the kill by its keeper, or of the loss.
    running.exit().assert(76, &["killed the program", &format!("{name} was lost")]);
    assert!(!program.is_alive());
}

#[test]
fn keepers_death_after_a_loss_is_reported() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("unkept");
    let script = folder.script("trap '' TERM; echo $$ > $D/pid; while :; do sleep 0.01; done");
    let mut running = Rlock::run_script(&server, &name, &["--ttl", "10m"], &script);
    let program = folder.wait_for_process("pid");
    let keeper = keeper_of(&running, &program);
    observer.break_lock(&name);
    running.hear(&format!("lost {name}: it was broken by force"));
    let _dead_after_a_second = kill(keeper.pid(), Signal::SIGKILL);
    let exited = running.exit();
    exited.assert(76, &["killed the program"]);
    assert!(!exited.stderr.contains("rlock was stopped"), "{}", exited.stderr);
}

#[test]
fn ignored_loss_spares_the_program_of_stopped_rlock() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("ignored");
    let options = ["--on-lost", "ignore", "--ttl", SHORT_TTL];
    let mut running = Rlock::run_script(&server, &name, &options, &folder.script("echo $$ > $D/pid; cat; exit 7"));
    let program = folder.wait_for_process("pid");
    running.signal(Signal::SIGSTOP);
    until("the end of the lease", || observer.look(&name).is_free().then_some(()));
    assert!(program.is_alive());
    running.signal(Signal::SIGCONT);
    running.hear("the program goes on");
    running.exit().assert(7, &[]);
}

#[test]
fn job_suspended_past_the_ttl_stays_stopped() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("suspended");
    let script = folder.script("trap 'echo on > $D/on' CONT TERM; echo $$ > $D/pid; read end; echo on > $D/on");
    let running =
        Rlock::start(&mut in_session(&server, &["run", &name, "--ttl", SHORT_TTL, "--", "sh", "-c", &script]));
    let program = folder.wait_for_process("pid");
    running.signal(Signal::SIGTSTP);
    let supervisor = Process::from(running.pid());
    supervisor.wait_until_stopped();
    program.wait_until_stopped();
    until("the end of the lease", || observer.look(&name).is_free().then_some(()));
    running.signal(Signal::SIGCONT);
    running.exit().assert(76, &["killed the program"]);
    assert_eq!(folder.read("on"), "");
}
