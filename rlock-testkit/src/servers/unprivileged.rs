//! Runs programs that refuse to run as root.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User};

/// The users that run them if the caller is root.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A command that runs `program` as the caller, or as an unprivileged user if the caller is root.
pub(super) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = substitute() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// Gives `path` to the user that runs the programs of [`command`].
pub(super) fn give(path: &Path) -> io::Result<()> {
    match substitute() {
        Some(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())),
        None => Ok(()),
    }
}

/// `None` for a caller that is not root. If none of the users exists, the program itself refuses to run as root.
fn substitute() -> Option<User> {
    if !Uid::effective().is_root() {
        return None;
    }
    USERS.iter().find_map(|name| User::from_name(name).ok().flatten())
}
