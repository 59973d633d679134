//! A program with a process of another user.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use crate::support::{Folder, Process, Rlock, copy_for_all_users, is_root, rlock};

const USER: &str = "65531";
const OTHER_USER: &str = "65532";

/// Starts the program of another user under the lock `x`, and returns both with the URL of the store. `None` unless
/// root runs the test: the program of an ordinary user cannot become another user.
fn start(folder: &Folder, options: &[&str]) -> Option<(Rlock, Process, String)> {
    if !is_root() {
        return None;
    }
    let program = copy_for_all_users(folder);
    fs::set_permissions(folder.path(""), Permissions::from_mode(0o777)).expect("the folder is the user's own");
    let url = format!("sqlite:{}?access=all", folder.path("locks.db").display());
    // rlock and its program may become other users, as sudo does, but may not kill their processes.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    command.args(["--inh-caps", "+setuid", "--ambient-caps", "+setuid"]);
    command.arg(&program).args(["run", "x", "--ttl", "1m"]).args(options).arg("--");
    let script = folder.script("echo $$ > $D/pid; exec sleep 600");
    command.args(["setpriv", "--reuid", OTHER_USER, "sh", "-c", &script]);
    let running = Rlock::start(command.env("RLOCK_URL", &url));
    Some((running, folder.wait_for_process("pid"), url))
}

#[test]
fn process_of_another_user_keeps_the_lock() {
    let folder = Folder::new();
    let Some((mut running, foreign, url)) = start(&folder, &["--kill-after", "100ms"]) else { return };
    running.signal(Signal::SIGTERM);
    let (_, said) = running.hear("processes of another user cannot be killed and run on: ");
    assert!(said.contains(&format!("({})", foreign.pid())), "{said}");
    let tried = Rlock::start(rlock(&["run", "x", "--try", "--", "true"]).env("RLOCK_URL", &url)).exit();
    tried.assert(75, &["held by"]);
    assert!(foreign.is_alive());
    kill(foreign.pid(), Signal::SIGKILL).expect("root may kill it");
    let exited = running.exit();
    exited.assert(137, &["released"]);
    assert!(!exited.stderr.contains("killed the program"), "{}", exited.stderr);
}

#[test]
fn process_of_another_user_outlives_a_broken_lock() {
    let folder = Folder::new();
    let Some((mut running, foreign, url)) = start(&folder, &["--json"]) else { return };
    let command = |arguments: &[&str]| Rlock::start(rlock(arguments).env("RLOCK_URL", &url)).exit();
    command(&["break", "x", "--yes"]).assert(0, &[]);
    let (_, said) = running.hear("\"event\":\"not_killed\"");
    assert!(said.contains(&format!("({})", foreign.pid())), "{said}");
    command(&["run", "x", "--try", "--", "true"]).assert(0, &["released"]);
    assert!(foreign.is_alive());
    kill(foreign.pid(), Signal::SIGKILL).expect("root may kill it");
    let exited = running.exit();
    exited.assert(76, &["\"event\":\"lost\""]);
    assert!(!exited.stderr.contains("\"event\":\"killed\""), "{}", exited.stderr);
}
