//! Signals: forwarding, stopping, the end of a wait, and SIGKILL.

use nix::sys::signal::{SigSet, Signal, killpg};

use super::Server;
use crate::support::{Folder, Observer, Process, Rlock, SHORT_TTL, rlock, unique, url};

#[test]
fn signals_reach_the_program() {
    let server = Server::start();
    for signal in ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT"] {
        let folder = Folder::new();
        let script = folder.script(&format!(
            "trap 'echo got >> $D/got; exit 42' {signal}; echo $$ > $D/ready; while :; do sleep 0.01; done"
        ));
        let running = Rlock::run_script(&server, &unique("signals"), &[], &script);
        folder.wait_for("ready", 1);
        running.signal(format!("SIG{signal}").parse().unwrap());
        let exited = running.exit();
        exited.assert(42, &["released"]);
        assert!(!exited.stderr.contains("continued"), "it was not stopped: {}", exited.stderr);
        assert_eq!(folder.read("got"), "got\n");
    }
}

#[test]
fn signals_reach_what_the_program_has_started() {
    let server = Server::start();
    let folder = Folder::new();
    let script = folder.script(
        "trap 'wait; echo outer >> $D/got; exit 3' USR1; \
         (trap 'echo inner >> $D/got; exit' USR1; echo > $D/ready; while :; do sleep 0.01; done) & \
         while :; do sleep 0.01; done",
    );
    let running = Rlock::run_script(&server, &unique("group"), &[], &script);
    folder.wait_for("ready", 1);
    running.signal(Signal::SIGUSR1);
    running.exit().assert(3, &["released"]);
    assert_eq!(folder.read("got"), "inner\nouter\n");
}

#[test]
fn ignored_signal_stays_ignored() {
    let server = Server::start();
    let folder = Folder::new();
    let inner = folder.script("echo > $D/ready; cat; kill -HUP $$; echo alive");
    let outer = "trap '' HUP; exec \"$@\"";
    let program = env!("CARGO_BIN_EXE_rlock");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", outer, "sh", program, "run", &unique("nohup"), "--", "sh", "-c", &inner]);
    let running = Rlock::start(command.env("RLOCK_URL", url(&server)));
    folder.wait_for("ready", 1);
    running.signal(Signal::SIGHUP);
    let exited = running.exit();
    exited.assert(0, &["released"]);
    assert_eq!(exited.stdout, "alive\n");
}

#[test]
fn killed_rlock_takes_its_tree_along() {
    let server = Server::start();
    let folder = Folder::new();
    let script = folder.script("sh -c 'echo $$ > '$D/inner'; exec sleep 600' & echo $$ > $D/pid; wait");
    let running = Rlock::run_script(&server, &unique("killed"), &[], &script);
    let (program, inner) = (folder.wait_for_process("pid"), folder.wait_for_process("inner"));
    assert!(program.is_alive() && inner.is_alive());
    running.signal(Signal::SIGKILL);
    program.wait_until_dead();
    inner.wait_until_dead();
}

#[test]
fn signal_ends_the_wait_and_leaves_the_queue() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let name = unique("give-up");
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let mut waiter = Rlock::on(&server, &["run", &name, "--ttl", "1h", "--", "echo", "ran"]);
        waiter.hear("waiting for");
        observer.wait_for_queue(&name, 1);
        waiter.signal(signal);
        let exited = waiter.exit();
        exited.assert(status, &[&format!("stopped by {signal} while waiting for {name}")]);
        assert_eq!(exited.stdout, "");
        // A shell ends its loop when the command dies of SIGINT.
        assert_eq!(exited.signal.is_some(), signal == Signal::SIGINT);
        assert_eq!(observer.look(&name).queue, []);
    }
    holder.exit().assert(0, &["released"]);
}

#[test]
fn signals_for_the_program_keep_rlock_waiting() {
    let server = Server::start();
    let name = unique("unmoved");
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    let mut waiter = Rlock::on(&server, &["run", &name, "--", "echo", "ran"]);
    waiter.hear("waiting for");
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH, Signal::SIGCONT] {
        waiter.signal(signal);
    }
    holder.exit().assert(0, &[]);
    waiter.exit().assert(0, &["acquired"]);
}

#[test]
fn a_program_that_is_stopped_keeps_its_lock() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("stopped");
    let script = folder.script("echo $$ > $D/pid; exec cat");
    let mut running = Rlock::run_script(&server, &name, &["--ttl", SHORT_TTL, "--json"], &script);
    let program = folder.wait_for_process("pid");
    killpg(program.pid(), Signal::SIGSTOP).unwrap();
    let (_, stopped) = running.hear(&format!("the program was stopped by signal 19; {name} stays held"));
    assert!(stopped.contains("\"event\":\"stopped\""), "{stopped}");
    let token = observer.holder(&name).unwrap().token;
    std::thread::sleep(std::time::Duration::from_secs(5)); // more than two TTLs
    assert_eq!(observer.holder(&name).unwrap().token, token);
    running.signal(Signal::SIGCONT);
    running.exit().assert(0, &["\"event\":\"continued\"", "released"]);
}

#[test]
fn stopped_program_is_continued_to_end() {
    let server = Server::start();
    let folder = Folder::new();
    let script = folder.script("echo $$ > $D/pid; exec cat");
    let mut running = Rlock::run_script(&server, &unique("stopped"), &[], &script);
    let program = folder.wait_for_process("pid");
    killpg(program.pid(), Signal::SIGSTOP).unwrap();
    running.hear("the program was stopped");
    running.signal(Signal::SIGTERM);
    running.exit().assert(143, &["released"]);
}

#[test]
fn inherited_signal_mask_is_cleared() {
    let server = Server::start();
    let folder = Folder::new();
    let mut blocked = SigSet::empty();
    [Signal::SIGCHLD, Signal::SIGTERM].into_iter().for_each(|signal| blocked.add(signal));
    blocked.thread_block().unwrap();
    let name = unique("blocked");
    let shown = Rlock::on(&server, &["run", &name, "--", "grep", "SigBlk", "/proc/self/status"]);
    let script = folder.script("echo > $D/ready; exec sleep 600");
    let running = Rlock::run_script(&server, &unique("blocked"), &[], &script);
    blocked.thread_unblock().unwrap();
    let exited = shown.exit();
    exited.assert(0, &["released"]);
    assert_eq!(exited.stdout, "SigBlk:\t0000000000000000\n");
    folder.wait_for("ready", 1);
    running.signal(Signal::SIGTERM);
    running.exit().assert(143, &["released"]);
}

#[test]
fn sigtstp_stops_both_and_sigcont_continues_both() {
    let server = Server::start();
    let folder = Folder::new();
    let name = unique("suspended");
    let script = folder.script("trap 'echo on > $D/on' CONT; echo $$ > $D/pid; read end; exit 0");
    let mut running = Rlock::start(&mut in_session(&server, &["run", &name, "--", "sh", "-c", &script]));
    let program = folder.wait_for_process("pid");
    let supervisor = Process::from(running.pid());
    running.signal(Signal::SIGTSTP);
    running.hear(&format!("stopped; {name} is lost unless rlock is continued within "));
    program.wait_until_stopped();
    supervisor.wait_until_stopped();
    assert_eq!(folder.read("on"), "");
    running.signal(Signal::SIGCONT);
    running.exit().assert(0, &["released"]);
    assert_eq!(folder.read("on"), "on\n");
}

/// Starts it like a job of a shell: in a process group whose leader's parent is in another group of the same session.
pub(crate) fn in_session(server: &Server, arguments: &[&str]) -> std::process::Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = rlock(arguments);
    command.env("RLOCK_URL", url(server)).process_group(0);
    command
}
