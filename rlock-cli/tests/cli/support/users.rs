//! Programs that other users run, which only root can start.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;

use super::folder::Folder;

/// Whether the test is run by root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").expect("it is mounted").uid() == 0
}

/// A copy of the program under test in `folder`, which every user can enter from now on. Other users may not be able to
/// enter the folder of the original.
pub(crate) fn copy_for_all_users(folder: &Folder) -> PathBuf {
    fs::set_permissions(folder.path(""), Permissions::from_mode(0o755)).expect("the folder is the user's own");
    let copy = folder.path("rlock");
    // By another process: a child of this one could inherit the descriptor, and the copy could not be started then.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_rlock")).arg(&copy).status();
    assert!(copied.expect("the system starts another process").success());
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).expect("the copy is the user's own");
    copy
}
