//! Every descendant of a program: none runs while another holder has the lock.

#[cfg(target_os = "linux")]
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Server;
use crate::support::{Folder, Observer, Process, Rlock, SHORT_TTL, children_of, parent_of, unique, until};

/// Starts a process in a group and session of its own whose parent has died, and which ignores TERM.
pub(super) const DAEMON: &str =
    "setsid sh -c 'trap \"\" TERM HUP INT; echo $$ > '$D/daemon'; while :; do sleep 0.01; done' & ";

fn run_daemon(server: &Server, folder: &Folder, name: &str, options: &[&str], program: &str) -> (Rlock, Process) {
    let running = Rlock::run_script(server, name, options, &folder.script(&format!("{DAEMON} {program}")));
    (running, folder.wait_for_process("daemon"))
}

pub(super) fn keeper_of(rlock: &Rlock, program: &Process) -> Process {
    let keeper = parent_of(program.pid());
    assert_eq!(parent_of(keeper), rlock.pid());
    keeper.into()
}

#[test]
fn what_the_program_leaves_behind_keeps_the_lock() {
    let server = Server::start();
    let folder = Folder::new();
    let name = unique("left");
    let (mut running, daemon) = run_daemon(&server, &folder, &name, &["--ttl", SHORT_TTL], "exit 7");
    let (_, left) = running.hear(&format!("{name} stays held for what it has left running"));
    assert!(left.contains(&format!("({})", daemon.pid())), "{left}");
    Rlock::on(&server, &["run", &name, "--try", "--", "true"]).exit().assert(75, &[]);
    kill(daemon.pid(), Signal::SIGKILL).unwrap();
    running.exit().assert(7, &["released"]);
}

#[test]
fn processes_past_the_twentieth_are_counted() {
    let server = Server::start();
    let script = "for i in $(seq 25); do sleep 600 & done; exit 7";
    let mut running = Rlock::run_script(&server, &unique("many"), &["--json"], script);
    let (_, left) = running.hear("\"event\":\"left\"");
    let left: serde_json::Value = serde_json::from_str(&left).unwrap();
    assert_eq!((left["processes"].as_array().unwrap().len(), &left["more"]), (20, &5.into()), "{left}");
    assert!(left["message"].as_str().unwrap().ends_with(" and 22 more"), "{left}");
    running.signal(Signal::SIGTERM);
    running.exit().assert(7, &["released"]);
}

#[test]
fn by_option_the_program_alone_keeps_the_lock() {
    let server = Server::start();
    let folder = Folder::new();
    let name = unique("alone");
    let (running, daemon) = run_daemon(&server, &folder, &name, &["--wait-for", "program"], "exit 7");
    running.exit_without_output().assert(7, &["released"]);
    Rlock::on(&server, &["run", &name, "--try", "--", "true"]).exit().assert(0, &[]);
    assert!(daemon.is_alive());
}

#[test]
fn loss_kills_what_has_left_the_group() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("lost");
    let (running, daemon) = run_daemon(&server, &folder, &name, &["--ttl", "1m"], "timeout 600 sleep 600");
    observer.break_lock(&name);
    running.exit().assert(76, &["killed the program"]);
    assert!(!daemon.is_alive());
}

#[test]
fn signal_ends_processes_outside_the_group() {
    let server = Server::start();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGINT] {
        let folder = Folder::new();
        let script = folder.script("sh -c 'echo $$ > '$D/deep'; exec setsid sleep 600' & echo > $D/ready; sleep 600");
        let running = Rlock::run_script(&server, &unique("asked"), &[], &script);
        folder.wait_for("ready", 1);
        let deep = folder.wait_for_process("deep");
        running.signal(signal);
        running.exit().assert(128 + signal as i32, &["released"]);
        assert!(!deep.is_alive(), "{signal}");
    }
}

#[test]
fn no_process_gets_term_twice() {
    let server = Server::start();
    let folder = Folder::new();
    let member = "trap 'echo >> $D/got' TERM; trap 'echo > $D/usr' USR1; echo > $D/ready; \
                  until [ -e $D/end ]; do sleep 0.01; done";
    std::fs::write(folder.path("member"), folder.script(member)).unwrap();
    let script = folder.script("trap 'exit 0' TERM; sh $D/member & while :; do sleep 0.01; done");
    let mut running = Rlock::run_script(&server, &unique("once"), &[], &script);
    folder.wait_for("ready", 1);
    running.signal(Signal::SIGTERM);
    folder.wait_for("got", 1);
    running.hear("stays held for what it has left running");
    // The keeper obeys one order after the other: a second TERM would have come before this signal.
    running.signal(Signal::SIGUSR1);
    folder.wait_for("usr", 1);
    std::fs::write(folder.path("end"), "").unwrap();
    running.exit().assert(0, &["released"]);
    assert_eq!(folder.read("got"), "\n");
}

#[test]
fn kill_after_covers_the_whole_tree() {
    let server = Server::start();
    let folder = Folder::new();
    let options = ["--kill-after", "200ms"];
    let (running, daemon) = run_daemon(&server, &folder, &unique("patience"), &options, "sleep 600");
    running.signal(Signal::SIGTERM);
    running.exit().assert(143, &["killed the program", "released"]);
    assert!(!daemon.is_alive());
}

#[test]
fn killed_rlock_takes_the_whole_tree_along() {
    let server = Server::start();
    let folder = Folder::new();
    let (running, daemon) = run_daemon(&server, &folder, &unique("killed"), &[], "sleep 600");
    running.signal(Signal::SIGKILL);
    daemon.wait_until_dead();
}

#[test]
fn killed_rlock_continues_its_stopped_keeper() {
    let server = Server::start();
    let folder = Folder::new();
    let (outer, name, program) = (unique("adopter"), unique("orphan"), env!("CARGO_BIN_EXE_rlock"));
    let script = folder.script(&format!("{DAEMON} echo $$ > $D/pid; exec sleep 600"));
    let inner = [program, "run", &name, "--ttl", "1m", "--", "sh", "-c", &script];
    // The outer keeper adopts the inner one, in the same session. In another session, the kernel would continue a
    // stopped orphan by itself.
    let running = Rlock::on(&server, &[&["run", &outer, "--ttl", "1m", "--"], &inner[..]].concat());
    let (daemon, program) = (folder.wait_for_process("daemon"), folder.wait_for_process("pid"));
    let keeper = Process::from(parent_of(program.pid()));
    let rlock = Process::from(parent_of(keeper.pid()));
    assert_ne!(rlock.pid(), running.pid());
    for guardian in [&rlock, &keeper] {
        kill(guardian.pid(), Signal::SIGSTOP).unwrap();
        guardian.wait_until_stopped();
    }
    kill(rlock.pid(), Signal::SIGKILL).unwrap();
    daemon.wait_until_dead();
    program.wait_until_dead();
    running.exit().assert(137, &["released"]);
}

#[test]
fn killed_keeper_takes_the_whole_tree_along() {
    let server = Server::start();
    let folder = Folder::new();
    let name = unique("keeper");
    let options = ["--ttl", "1m", "--json"];
    let (mut running, daemon) = run_daemon(&server, &folder, &name, &options, "echo $$ > $D/pid; sleep 600");
    running.hear("started");
    let program = folder.wait_for_process("pid");
    let keeper = keeper_of(&running, &program);
    assert_eq!(std::fs::read_to_string(format!("/proc/{}/comm", keeper.pid())).unwrap(), "rlock\n");
    kill(keeper.pid(), Signal::SIGKILL).unwrap();
    running.exit().assert(71, &["killed the program", "was ended by SIGKILL", "the keeper of the program was killed"]);
    assert!(!program.is_alive() && !daemon.is_alive());
    Rlock::on(&server, &["run", &name, "--try", "--", "true"]).exit().assert(0, &[]);
}

#[test]
fn killed_keeper_of_stopped_rlock_spares_daemons() {
    let server = Server::start();
    let folder = Folder::new();
    let options = ["--ttl", "1m", "--json"];
    let program = "echo $$ > $D/pid; sleep 600";
    let (mut running, daemon) = run_daemon(&server, &folder, &unique("alone"), &options, program);
    running.hear("started");
    let program = folder.wait_for_process("pid");
    let (supervisor, keeper) = (Process::from(running.pid()), keeper_of(&running, &program));
    running.signal(Signal::SIGSTOP);
    supervisor.wait_until_stopped();
    kill(keeper.pid(), Signal::SIGKILL).unwrap();
    program.wait_until_dead();
    assert!(daemon.is_alive());
    running.signal(Signal::SIGCONT);
    running.exit().assert(71, &["killed the program"]);
    assert!(!daemon.is_alive());
}

#[test]
fn keeper_ends_with_the_last_of_its_tree() {
    let server = Server::start();
    let folder = Folder::new();
    let script = folder.script("echo $$ > $D/pid; exec sleep 600");
    let running = Rlock::run_script(&server, &unique("gone"), &["--ttl", "10m"], &script);
    let program = folder.wait_for_process("pid");
    let (supervisor, keeper) = (Process::from(running.pid()), keeper_of(&running, &program));
    running.signal(Signal::SIGSTOP);
    supervisor.wait_until_stopped();
    kill(program.pid(), Signal::SIGKILL).unwrap();
    keeper.wait_until_dead();
    running.signal(Signal::SIGCONT);
    running.exit().assert(137, &["released"]);
}

#[test]
fn stopped_rlock_leaves_nothing_beside_the_next() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("stopped");
    let options = ["--ttl", SHORT_TTL];
    let (running, daemon) = run_daemon(&server, &folder, &name, &options, "echo $$ > $D/pid; exec sleep 600");
    let program = folder.wait_for_process("pid");
    running.signal(Signal::SIGSTOP);
    until("the end of the lease", || observer.look(&name).is_free().then_some(()));
    assert!(!program.is_alive() && !daemon.is_alive());
    running.signal(Signal::SIGCONT);
    running.exit().assert(76, &["killed the program"]);
}

#[test]
fn stopped_keeper_does_not_save_the_tree() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("stopped");
    let (mut running, daemon) = run_daemon(&server, &folder, &name, &["--ttl", "1m"], "echo $$ > $D/pid; sleep 600");
    let program = folder.wait_for_process("pid");
    let keeper = keeper_of(&running, &program);
    kill(keeper.pid(), Signal::SIGSTOP).unwrap();
    observer.break_lock(&name);
    running.hear("lost");
    running.exit().assert(76, &["killed the program"]);
    assert!(!program.is_alive() && !daemon.is_alive());
}

/// The scheduling policy of a process: 0 for the usual one, 2 for `SCHED_RR`.
#[cfg(target_os = "linux")]
fn policy_of(process: &Process) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).expect("the process is there");
    let (_, fields) = stat.rsplit_once(')').expect("the name of the program is in parentheses");
    fields.split_whitespace().nth(38).expect("it has a policy").parse().expect("a number")
}

#[cfg(target_os = "linux")]
#[test]
fn keeper_has_priority_and_the_program_has_not() {
    let server = Server::start();
    let folder = Folder::new();
    let may_hurry = std::process::Command::new("chrt").args(["--rr", "1", "true"]).stderr(Stdio::null()).status();
    let may_hurry = may_hurry.expect("chrt is part of util-linux").success();
    let script = folder.script("echo $$ > $D/pid; cat");
    let running = Rlock::run_script(&server, &unique("hurried"), &["--json"], &script);
    let program = folder.wait_for_process("pid");
    let keeper = keeper_of(&running, &program);
    assert_eq!(policy_of(&program), 0);
    until("the priority of the keeper", || (policy_of(&keeper) == if may_hurry { 2 } else { 0 }).then_some(()));
    running.exit().assert(0, &[]);
}

#[test]
fn keeper_that_was_stopped_starts_the_program() {
    let server = Server::start();
    let name = unique("waiting");
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    let mut waiter = Rlock::on(&server, &["run", &name, "--", "echo", "ran"]);
    waiter.hear("waiting");
    let keeper = Process::from(children_of(waiter.pid())[0]);
    kill(keeper.pid(), Signal::SIGSTOP).unwrap();
    keeper.wait_until_stopped();
    holder.exit().assert(0, &["released"]);
    let exited = waiter.exit();
    exited.assert(0, &["released"]);
    assert_eq!(exited.stdout, "ran\n");
}

/// Starts `rlock` by `unshare` with these options, which may end with a command that starts it.
pub(super) fn unshared(server: &Server, options: &[&str], arguments: &[&str]) -> Rlock {
    let unshare = |program: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(options).arg(program);
        command
    };
    let probe = unshare("true").output().expect("unshare is part of util-linux");
    assert!(
        probe.status.success(),
        "the system does not let this user make the namespaces of this test (unshare {}); CONTRIBUTING.md says how to \
         allow them: {}",
        options.join(" "),
        String::from_utf8_lossy(&probe.stderr)
    );
    let mut command = unshare(env!("CARGO_BIN_EXE_rlock"));
    Rlock::start(command.args(arguments).env("RLOCK_URL", crate::support::url(server)))
}

#[test]
fn run_without_proc_is_refused() {
    let server = Server::start();
    let script = "mount -t tmpfs none /proc && exec \"$@\"";
    let options = ["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"];
    let exited = unshared(&server, &options, &["run", &unique("blind"), "--", "true"]).exit();
    exited.assert(71, &["rlock needs /proc mounted"]);
}

#[test]
fn namespace_ends_the_tree_of_killed_guardians() {
    let server = Server::start();
    let name = unique("both");
    let options = ["--user", "--map-current-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let script = "setsid sleep 600 & exec sleep 600";
    let run = ["run", &name, "--ttl", "5s", "--json", "--", "sh", "-c", script];
    let mut first = unshared(&server, &options, &run);
    first.hear("\"event\":\"started\"");
    let rlock = children_of(first.pid())[0];
    let keeper = children_of(rlock)[0];
    let program = Process::from(children_of(keeper)[0]);
    let daemon = Process::from(until("the daemon", || children_of(program.pid()).first().copied()));
    let mut next = Rlock::on(&server, &["run", &name, "--", "cat"]);
    next.hear("waiting");
    for guardian in [keeper, rlock] {
        let _dead_already = kill(guardian, Signal::SIGKILL);
    }
    next.hear("acquired");
    assert!(!program.is_alive() && !daemon.is_alive());
    next.exit().assert(0, &["released"]);
}

#[test]
fn proc_of_another_namespace_is_refused() {
    let server = Server::start();
    let options = ["--user", "--map-current-user", "--pid", "--fork"];
    let exited = unshared(&server, &options, &["run", &unique("foreign"), "--", "true"]).exit();
    exited.assert(71, &["rlock needs /proc mounted", "--mount-proc"]);
}

/// Two containers can have the same host name, process ids and labels.
#[test]
fn owners_that_look_alike_exclude_each_other() {
    let server = Server::start();
    let name = unique("twins");
    let options = ["--user", "--map-current-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let run = |rest: &[&str]| unshared(&server, &options, &[&["run", &name, "--label", "twin"][..], rest].concat());
    let mut first = run(&["--", "cat"]);
    first.hear("acquired");
    run(&["--try", "--", "true"]).exit().assert(75, &["process 1 (twin)"]);
    first.exit().assert(0, &["released"]);
}

#[test]
fn children_that_rlock_had_before_are_spared() {
    let server = Server::start();
    let folder = Folder::new();
    let name = unique("spared");
    let inner = folder.script("echo $$ > $D/pid; sleep 600");
    std::fs::write(folder.path("job"), inner).unwrap();
    let script = folder.script("sleep 600 & echo $! > $D/before; exec \"$@\"");
    let job = folder.path("job");
    let mut command = std::process::Command::new("sh");
    command.args([
        "-c",
        &script,
        "sh",
        env!("CARGO_BIN_EXE_rlock"),
        "run",
        &name,
        "--json",
        "--",
        "sh",
        job.to_str().unwrap(),
    ]);
    let mut running = Rlock::start(command.env("RLOCK_URL", crate::support::url(&server)));
    running.hear("started");
    let (before, program) = (folder.wait_for_process("before"), folder.wait_for_process("pid"));
    kill(keeper_of(&running, &program).pid(), Signal::SIGKILL).unwrap();
    running.exit_without_output().assert(71, &["killed the program"]);
    assert!(before.is_alive());
}

#[test]
fn whole_tree_dies_before_its_parents_are_reaped() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("forks");
    // Each process forks another and dies at once, until it is killed.
    let script =
        folder.script("trap '' TERM; echo 'echo $$ >> $D/pids; sh $D/hop & ' > $D/hop; export D; sh $D/hop; sleep 600");
    let running = Rlock::run_script(&server, &name, &["--ttl", "1m"], &script);
    folder.wait_for("pids", 50);
    observer.break_lock(&name);
    running.exit().assert(76, &["killed the program"]);
    let pids = folder.read("pids");
    let last = pids.lines().last().unwrap().parse().unwrap();
    assert!(!Process::from(Pid::from_raw(last)).is_alive());
    let hops = pids.lines().count();
    assert_eq!(folder.read("pids").lines().count(), hops);
}
