//! The keeper: a process that ends the program's group when `rlock` was killed.
//!
//! The system can end a program with its parent (on Linux), but not what the program has started. The keeper holds
//! the reading end of a pipe whose writing end only `rlock` has. It is told the group first, and that all is well at
//! last; when the pipe ends without that, `rlock` has died.

use std::io::{self, BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;

use crate::exit::Exit;

const ALL_IS_WELL: &str = "all is well";

/// A running keeper. Dropping this tells it that all is well.
#[derive(Debug)]
pub(super) struct Keeper(Child);

impl Keeper {
    /// Starts one that keeps nothing yet, away from the signals of the terminal.
    pub(super) fn start() -> io::Result<Self> {
        let mut command = Command::new(this_program()?);
        command.arg0("rlock").arg("keep").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Self)
    }

    /// From now on it keeps `group`.
    pub(super) fn keep(&mut self, group: Pid) {
        self.say(&group.to_string());
    }

    fn say(&mut self, line: &str) {
        if let Some(pipe) = &mut self.0.stdin {
            let _somebody_killed_it = pipe.write_all(format!("{line}\n").as_bytes());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.say(ALL_IS_WELL);
    }
}

/// What the keeper does. It outlives the signals that end a whole service.
pub(crate) fn keep() -> Exit {
    let _cannot_fail = SigSet::all().thread_block();
    let mut lines = io::stdin().lock().lines().map_while(Result::ok);
    let group = lines.next().and_then(|line| line.parse().ok());
    let is_well = lines.next().is_some_and(|line| line == ALL_IS_WELL);
    if let Some(group) = group
        && !is_well
    {
        let _nobody_left = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    Exit::OK
}

/// This program, on Linux also if its file has been replaced meanwhile.
fn this_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}
