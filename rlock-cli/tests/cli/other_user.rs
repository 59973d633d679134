//! A program with a process of another user.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use crate::support::{Folder, Rlock, copy_for_all_users, is_root, rlock};

const USER: &str = "65531";
const OTHER_USER: &str = "65532";

#[test]
fn process_of_another_user_keeps_the_lock() {
    if !is_root() {
        return; // the program of an ordinary user cannot become another user
    }
    let folder = Folder::new();
    let program = copy_for_all_users(&folder);
    fs::set_permissions(folder.path(""), Permissions::from_mode(0o777)).expect("the folder is the user's own");
    let url = format!("sqlite:{}?access=all", folder.path("locks.db").display());
    // rlock and its program may become other users, as sudo does, but may not kill their processes.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    command.args(["--inh-caps", "+setuid", "--ambient-caps", "+setuid"]);
    command.arg(&program).args(["run", "x", "--ttl", "1m", "--kill-after", "100ms", "--"]);
    let script = folder.script("echo $$ > $D/pid; exec sleep 600");
    command.args(["setpriv", "--reuid", OTHER_USER, "sh", "-c", &script]);
    let mut running = Rlock::start(command.env("RLOCK_URL", &url));
    let foreign = folder.wait_for_process("pid");
    running.signal(Signal::SIGTERM);
    let (_, said) = running.hear("processes of another user cannot be killed and run on: ");
    assert!(said.contains(&format!("({})", foreign.pid())), "{said}");
    let tried = Rlock::start(rlock(&["run", "x", "--try", "--", "true"]).env("RLOCK_URL", &url)).exit();
    tried.assert(75, &["held by"]);
    assert!(foreign.is_alive());
    kill(foreign.pid(), Signal::SIGKILL).expect("root may kill it");
    running.exit().assert(137, &["released"]);
}
