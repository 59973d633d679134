//! A user who may start few processes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::{Folder, Rlock, copy_for_all_users, is_root, rlock};

/// No other test starts processes of this user.
const USER: &str = "65530";

#[test]
fn limit_of_processes_leaves_no_lock() {
    if !is_root() {
        return; // the limit counts all processes of the user, and an ordinary user has others
    }
    let folder = Folder::new();
    let program = copy_for_all_users(&folder);
    fs::set_permissions(folder.path(""), Permissions::from_mode(0o777)).expect("the folder is the user's own");
    let url = format!("sqlite:{}?access=all", folder.path("locks.db").display());
    for limit in 1..=8 {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "prlimit", &format!("--nproc={limit}")]);
        command.arg(&program).args(["run", "x", "--ttl", "1h", "--", "true"]);
        let limited = Rlock::start(command.env("RLOCK_URL", &url)).exit();
        // The keeper is the second process. The later ones may be too many, too.
        let expected: &[i32] = if limit == 1 { &[71] } else { &[0, 69, 71] };
        let is_expected = limited.status.is_some_and(|status| expected.contains(&status));
        assert!(is_expected, "{limit} processes: {:?}: {}", limited.status, limited.stderr);
        if limit == 1 {
            limited.assert(71, &["the keeper cannot be started", "too many processes"]);
        }
        Rlock::start(rlock(&["run", "x", "--try", "--", "true"]).env("RLOCK_URL", &url)).exit().assert(0, &[]);
    }
}
