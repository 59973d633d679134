//! A program in a PID namespace of its own. Where the system refuses namespaces, the tests show the refusal.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Server;
use crate::support::{Exited, Folder, Process, Rlock, children_of, parent_of, rlock, unique, until, url};

/// The event of a run that the system refused.
const REFUSED: &str = "\"event\":\"refused\"";
const REFUSAL: &[&str] = &["does not let this user make a PID namespace", "leave out --pid-namespace"];

/// The system has refused a namespace, and refuses it to `unshare` as well.
fn assert_refused(exited: &Exited) {
    exited.assert(71, REFUSAL);
    let options = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true"];
    let probe = std::process::Command::new("unshare").args(options).output().expect("unshare is part of util-linux");
    assert!(!probe.status.success(), "rlock refuses what the system allows");
}

/// One of the two processes that guard a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guardian {
    Supervisor,
    Keeper,
}

#[test]
fn option_ends_the_tree_however_both_guardians_fail() {
    use Guardian::{Keeper, Supervisor};
    use Signal::{SIGCONT, SIGKILL, SIGSTOP};

    const ORDERS: [[(Guardian, Signal); 2]; 8] = [
        [(Keeper, SIGKILL), (Supervisor, SIGKILL)],
        [(Supervisor, SIGKILL), (Keeper, SIGKILL)],
        [(Keeper, SIGSTOP), (Supervisor, SIGKILL)],
        [(Supervisor, SIGKILL), (Keeper, SIGSTOP)],
        [(Keeper, SIGKILL), (Supervisor, SIGSTOP)],
        [(Supervisor, SIGSTOP), (Keeper, SIGKILL)],
        [(Keeper, SIGSTOP), (Supervisor, SIGSTOP)],
        [(Supervisor, SIGSTOP), (Keeper, SIGSTOP)],
    ];
    let server = Server::start();
    let mut rounds = Vec::new();
    for order in ORDERS {
        let name = unique("failed");
        let options = ["--pid-namespace", "--ttl", "5s", "--json"];
        let mut first = Rlock::run_script(&server, &name, &options, "setsid sleep 600 & exec sleep 600");
        let (_, line) = first.hear_any(&["\"event\":\"started\"", REFUSED]);
        if line.contains(REFUSED) {
            return assert_refused(&first.exit());
        }
        let started: serde_json::Value = serde_json::from_str(&line).unwrap();
        let program = Process::from(Pid::from_raw(started["process"].as_i64().unwrap().try_into().unwrap()));
        let daemon = Process::from(until("the daemon", || children_of(program.pid()).first().copied()));
        let guardians = [Process::from(first.pid()), Process::from(parent_of(program.pid()))];
        let mut next = Rlock::on(&server, &["run", &name, "--", "cat"]);
        next.hear("waiting");
        fail(&guardians, order);
        rounds.push((order, guardians, first, next, [program, daemon]));
    }
    for (order, _guardians, first, mut next, tree) in rounds {
        next.hear("acquired");
        assert!(!tree.iter().any(Process::is_alive), "{order:?}");
        next.exit().assert(0, &["released"]);
        if stops_both(order) {
            first.signal(SIGCONT);
            first.exit().assert(76, &["killed the program"]);
        }
    }
}

fn stops_both(order: [(Guardian, Signal); 2]) -> bool {
    order.iter().all(|(_, signal)| *signal == Signal::SIGSTOP)
}

/// Sends the signals, to `rlock` and its keeper, in this order.
fn fail([supervisor, keeper]: &[Process; 2], order: [(Guardian, Signal); 2]) {
    let send = |(guardian, signal): (Guardian, Signal)| {
        let process = if guardian == Guardian::Supervisor { supervisor } else { keeper };
        until("the failure of a guardian", || {
            let _dead_already = kill(process.pid(), signal);
            (!process.is_alive() || signal == Signal::SIGSTOP && process.is_stopped()).then_some(())
        });
    };
    order.into_iter().for_each(send);
    if stops_both(order) {
        // An order of rlock, such as the first extension, may have continued the keeper.
        send((Guardian::Keeper, Signal::SIGSTOP));
    }
}

#[test]
fn orphans_in_a_namespace_keep_the_lock() {
    let server = Server::start();
    let folder = Folder::new();
    let name = unique("left");
    let nested = format!("'{}' run {name} -- true; echo $? > $D/nested", env!("CARGO_BIN_EXE_rlock"));
    let orphan = "(until [ -e $D/end ]; do sleep 0.01; done; echo > $D/late) &";
    let script = folder.script(&format!("{nested}; {orphan} exit 7"));
    let mut running = Rlock::run_script(&server, &name, &["--pid-namespace", "--json"], &script);
    let (_, line) = running.hear_any(&["\"event\":\"left\"", REFUSED]);
    if line.contains(REFUSED) {
        return assert_refused(&running.exit());
    }
    std::fs::write(folder.path("end"), "").unwrap();
    running.exit().assert(7, &["released"]);
    assert_eq!((folder.read("late"), folder.read("nested")), ("\n".into(), "64\n".into()));
}

#[cfg(target_os = "linux")]
#[test]
fn sibling_of_the_program_keeps_the_lock() {
    const SCRIPT: &str = "RLOCK_TEST_SIBLING";

    // The program is this test, started again.
    if let Ok(script) = std::env::var(SCRIPT) {
        start_sibling(&script);
        std::process::exit(7);
    }
    let server = Server::start();
    let folder = Folder::new();
    let name = unique("sibling");
    let (_, module) = module_path!().split_once("::").unwrap();
    let test = format!("{module}::sibling_of_the_program_keeps_the_lock");
    let this = std::env::current_exe().unwrap();
    let program = [this.to_str().unwrap(), test.as_str(), "--exact", "--nocapture"];
    let mut command = rlock(&[&["run", name.as_str(), "--pid-namespace", "--json", "--"], &program[..]].concat());
    command.env("RLOCK_URL", url(&server));
    command.env(SCRIPT, folder.script("until [ -e $D/end ]; do sleep 0.01; done; echo > $D/late"));
    let mut running = Rlock::start(&mut command);
    let (_, line) = running.hear_any(&["\"event\":\"left\"", REFUSED]);
    if line.contains(REFUSED) {
        return assert_refused(&running.exit());
    }
    std::fs::write(folder.path("end"), "").unwrap();
    running.exit().assert(7, &["released"]);
    assert_eq!(folder.read("late"), "\n");
}

/// Starts `sh -c SCRIPT` as a child of the parent of this process.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the standard library only starts children of this process")]
fn start_sibling(script: &str) {
    use nix::libc;

    let script = std::ffi::CString::new(script).unwrap();
    let arguments = [c"sh".as_ptr(), c"-c".as_ptr(), script.as_ptr(), std::ptr::null()];
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: as by a fork, the other process gets a copy of the memory. The call reads and writes none.
    let sibling = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    if sibling == 0 {
        // SAFETY: both functions are safe after a fork. The strings end with NUL, and the array with a null pointer.
        unsafe {
            libc::execv(c"/bin/sh".as_ptr(), arguments.as_ptr());
            libc::_exit(127);
        }
    }
    assert!(sibling > 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn outer_lock_is_refused_in_an_inner_namespace() {
    let server = Server::start();
    let (outer, inner, program) = (unique("outer"), unique("inner"), env!("CARGO_BIN_EXE_rlock"));
    let in_namespace =
        [program, "run", &inner, "--pid-namespace", "--json", "--", program, "run", &outer, "--", "true"];
    let exited = Rlock::on(&server, &[&["run", &outer, "--"], &in_namespace[..]].concat()).exit();
    if exited.stderr.contains(REFUSED) {
        return assert_refused(&exited);
    }
    exited.assert(64, &["held by the rlock run that this one runs in"]);
}

#[test]
fn namespace_of_a_waiter_is_reaped() {
    let server = Server::start();
    let (outer, name, program) = (unique("outer"), unique("busy"), env!("CARGO_BIN_EXE_rlock"));
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    let waiter = [program, "run", &name, "--pid-namespace", "--json", "--", "true"];
    let mut running = Rlock::on(&server, &[&["run", &outer, "--ttl", "10m", "--"], &waiter[..]].concat());
    let (_, line) = running.hear_any(&["\"event\":\"waiting\"", REFUSED]);
    if line.contains(REFUSED) {
        return assert_refused(&running.exit());
    }
    let reaper = Process::from(children_of(running.pid())[0]);
    let waiter = children_of(reaper.pid())[0];
    let init = Process::from(children_of(children_of(waiter)[0])[0]);
    // The outer keeper adopts the orphans of the waiter. A stopped one does not reap them. An order of the outer rlock,
    // such as the first extension, continues it.
    until("the stop of the outer keeper", || {
        kill(reaper.pid(), Signal::SIGSTOP).unwrap();
        reaper.is_stopped().then_some(())
    });
    kill(waiter, Signal::SIGTERM).unwrap();
    init.wait_until_reaped();
    kill(reaper.pid(), Signal::SIGCONT).unwrap();
    running.exit().assert(143, &["\"event\":\"interrupted\""]);
    holder.exit().assert(0, &["released"]);
}

#[test]
fn environment_from_a_namespace_refuses_nothing_outside() {
    let server = Server::start();
    let folder = Folder::new();
    let name = unique("sent");
    let script = folder.script("echo \"$RLOCK_INSIDE\" > $D/inside");
    let exited = Rlock::run_script(&server, &name, &["--pid-namespace", "--json"], &script).exit();
    if exited.stderr.contains(REFUSED) {
        return assert_refused(&exited);
    }
    exited.assert(0, &["released"]);
    let inside = folder.read("inside");
    assert!(inside.contains(&name), "{inside}");
    let mut command = rlock(&["run", name.as_str(), "--", "true"]);
    command.env("RLOCK_URL", url(&server)).env("RLOCK_INSIDE", inside.trim_end());
    Rlock::start(&mut command).exit().assert(0, &["released"]);
}

#[test]
fn namespace_leaves_no_process_behind() {
    let arguments = ["run", "x", "--url", "sqlite:x", "--pid-namespace", "--wait-for", "program", "--", "true"];
    Rlock::start(&mut rlock(&arguments)).exit().assert(64, &["leave out --wait-for program"]);
}
