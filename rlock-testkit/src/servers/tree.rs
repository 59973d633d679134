//! A process and its descendants, read from `/proc` on Linux. Elsewhere a process counts as having none.
//!
//! A signal to the process group would not do, because each process of Postgres has its own group.

use std::time::{Duration, Instant};
use std::{fs, io, thread};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const FOLLOWS_WITHIN: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Stops `root`, which the caller has not reaped, and all its descendants. Returns them, parents before their children.
///
/// # Errors
///
/// [`TimedOut`](io::ErrorKind::TimedOut) if one does not stop, as a process that waits for a disk cannot.
pub(super) fn freeze(root: Pid) -> io::Result<Vec<Pid>> {
    let mut frozen = Vec::new();
    let mut found = vec![root];
    while !found.is_empty() {
        signal(&found, Signal::SIGSTOP)?;
        wait_until(&found, |state| matches!(state, 'T' | 't'))?;
        frozen.append(&mut found);
        // Listed only after they have stopped: a stopped process starts no children.
        found = children(&frozen)?;
    }
    Ok(frozen)
}

/// Kills `processes`, and waits until they have ended and hold no resources.
pub(super) fn end(processes: &[Pid]) {
    let _gone = signal(processes, Signal::SIGKILL).and_then(|()| wait_until(processes, |_| false));
}

/// Kills all descendants of this process, and waits until they have ended.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub(crate) fn end_descendants() -> io::Result<()> {
    for child in children(&[Pid::this()])? {
        // A process that does not stop is killed without its children.
        end(&freeze(child).unwrap_or_else(|_| vec![child]));
    }
    Ok(())
}

fn signal(processes: &[Pid], signal: Signal) -> io::Result<()> {
    processes.iter().try_for_each(|&process| match kill(process, signal) {
        Err(Errno::ESRCH) => Ok(()),
        sent => Ok(sent?),
    })
}

/// Waits until each process has a state that `is_it` accepts, or has ended.
fn wait_until(processes: &[Pid], is_it: fn(char) -> bool) -> io::Result<()> {
    let begun = Instant::now();
    let is_pending = |&process: &Pid| stat(process).is_some_and(|stat| !stat.has_ended() && !is_it(stat.state));
    while processes.iter().any(is_pending) {
        if begun.elapsed() > FOLLOWS_WITHIN {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a process does not follow a signal"));
        }
        thread::sleep(BETWEEN_LOOKS);
    }
    Ok(())
}

/// The children of `parents` that are not in `parents`.
fn children(parents: &[Pid]) -> io::Result<Vec<Pid>> {
    if !cfg!(target_os = "linux") {
        return Ok(Vec::new());
    }
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let process = Pid::from_raw(process);
        let is_child = |stat: Stat| parents.contains(&stat.parent) && !stat.has_ended();
        if stat(process).is_some_and(is_child) && !parents.contains(&process) {
            children.push(process);
        }
    }
    Ok(children)
}

/// The fields of `/proc/{id}/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: Pid,
}

impl Stat {
    /// Parses `pid (name) state ppid ...`, the format of proc(5). The name may contain any character.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        Some(Self { state, parent: Pid::from_raw(fields.next()?.parse().ok()?) })
    }

    /// Whether the process has ended and only its status is left for its parent.
    fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// `None` if there is no such process.
fn stat(process: Pid) -> Option<Stat> {
    Stat::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_name_may_contain_parentheses() {
        let stat = Stat { state: 'S', parent: Pid::from_raw(7) };
        for line in ["12 (postgres) S 7 12 12 0 -1", "12 (a) Z 1 (b) S 7 12", "12 (a b) ) S 7"] {
            assert_eq!(Stat::parse(line).as_ref(), Some(&stat), "{line}");
        }
        for line in ["", "12 (postgres", "12 (postgres)", "12 (postgres) S", "12 (postgres) S x"] {
            assert_eq!(Stat::parse(line), None, "{line}");
        }
    }
}
