//! Programs that refuse to be run by root.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User};

/// As whom they are run where the caller is root.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A command that runs `program` as the caller, or as a user of less power where the caller is root.
pub(super) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = substitute() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// Gives `path` to the user as whom [`command`] runs programs.
pub(super) fn give(path: &Path) -> io::Result<()> {
    match substitute() {
        Some(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())),
        None => Ok(()),
    }
}

/// With none at all, the program says by itself what it thinks of root.
fn substitute() -> Option<User> {
    if !Uid::effective().is_root() {
        return None;
    }
    USERS.iter().find_map(|name| User::from_name(name).ok().flatten())
}
