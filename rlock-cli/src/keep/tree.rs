//! The processes that descend from this one.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

use super::survivors::{Survivor, Survivors};
use crate::sys;

/// The processes that descend from this one, except the children that it had before.
///
/// This process is a subreaper and reaps nothing during a look. A process whose ancestors below this one have all died
/// is a child of this one, and a dead child stays a zombie. So a look that finds no process is right, although
/// processes fork and die meanwhile. A look that finds some may have missed others.
#[derive(Debug)]
pub(crate) struct Tree {
    spared: HashSet<Identity>,
    /// The first process of the PID namespace below this process, which is no survivor of the program.
    init: Option<i32>,
}

/// A process as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: i32,
    name: String,
    parent: i32,
    group: i32,
    /// No thread of it runs.
    is_dead: bool,
    started: u64,
}

/// A process id and a start time, which distinguishes the process from an earlier one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pid: i32,
    started: u64,
}

impl Tree {
    /// The tree below this process, without the children that it has now.
    pub(crate) fn of_this_process() -> Self {
        let own = Pid::this().as_raw();
        let children = visible().into_iter().filter(|process| process.parent == own);
        Self { spared: children.map(|process| process.identity()).collect(), init: None }
    }

    /// Counts this child as the first process of the PID namespace that the other processes are in.
    pub(super) fn set_init(&mut self, pid: Pid) {
        self.init = Some(pid.as_raw());
    }

    /// Whether this process has no child but the first process of the PID namespace, not even a zombie.
    ///
    /// A look is right, although processes fork meanwhile: only a child of this process can start another one.
    pub(super) fn has_only_init(&self) -> bool {
        let own = Pid::this().as_raw();
        visible().iter().filter(|process| process.parent == own).all(|child| Some(child.pid) == self.init)
    }

    /// Whether `/proc` shows processes by the numbers that they have here. That of another PID namespace does not.
    pub(crate) fn can_be_seen() -> bool {
        !cfg!(target_os = "linux") || look_at("self").is_some_and(|process| process.pid == Pid::this().as_raw())
    }

    /// Whether nothing is left, not even a zombie.
    pub(crate) fn is_gone(&self) -> bool {
        if cfg!(target_os = "linux") && self.spared.is_empty() {
            return !sys::has_children(); // even if `/proc` hides some
        }
        self.members().is_empty()
    }

    /// The processes that run or are stopped.
    pub(crate) fn survivors(&self) -> Survivors {
        let living = self.members().into_iter().filter(|process| !process.is_dead);
        living.filter(|process| Some(process.pid) != self.init).map(Process::into_survivor).collect()
    }

    /// Sends `signal` to every process, and returns those that this user may not signal.
    pub(crate) fn signal(&self, signal: i32) -> Survivors {
        let living = self.members().into_iter().filter(|process| !process.is_dead);
        living.filter(|process| process.signal(signal) == Err(Errno::EPERM)).map(Process::into_survivor).collect()
    }

    /// The processes that run or are stopped.
    pub(super) fn living(&self) -> impl Iterator<Item = Identity> {
        self.members().into_iter().filter(|process| !process.is_dead).map(|process| process.identity())
    }

    /// Lets `send` send TERM to a process group, and adds to `asked` the processes that got it.
    ///
    /// A process that is forked or leaves the group meanwhile may not have got it. It is not added, and may get TERM
    /// twice, but none is left out.
    pub(super) fn ask_group(&self, group: Pid, asked: &mut HashSet<Identity>, send: impl FnOnce()) {
        let before: HashSet<_> = self.group(group).collect();
        send();
        asked.extend(self.group(group).filter(|process| before.contains(process)));
    }

    /// Those of the processes that are in this process group.
    fn group(&self, group: Pid) -> impl Iterator<Item = Identity> {
        let members = self.members().into_iter().filter(move |process| process.group == group.as_raw());
        members.filter(|process| !process.is_dead).map(|process| process.identity())
    }

    /// Sends TERM to each process that is not in `asked`, and adds it there. Continues every process that is stopped,
    /// since it would not see the signal.
    pub(super) fn ask_to_end(&self, asked: &mut HashSet<Identity>) {
        for process in self.members().iter().filter(|process| !process.is_dead) {
            if asked.insert(process.identity()) {
                let _gone_or_refused = process.signal(libc::SIGTERM);
            }
            let _gone_or_refused = process.signal(libc::SIGCONT);
        }
    }

    fn members(&self) -> Vec<Process> {
        self.below(Pid::this().as_raw(), visible())
    }

    /// Those of `processes` that descend from the process `root`.
    fn below(&self, root: i32, processes: Vec<Process>) -> Vec<Process> {
        let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
        for process in processes {
            children.entry(process.parent).or_default().push(process);
        }
        let mut members = children.remove(&root).unwrap_or_default();
        members.retain(|process| !self.spared.contains(&process.identity()));
        let mut next = 0;
        while let Some(process) = members.get(next) {
            members.extend(children.remove(&process.pid).unwrap_or_default());
            next += 1;
        }
        members
    }
}

impl Survivor {
    /// The same process with its present name, `None` if it has ended.
    pub(super) fn renamed(self) -> Option<Self> {
        let is_same = |process: &Process| !process.is_dead && process.started == self.started;
        look_at(self.pid).filter(is_same).map(Process::into_survivor)
    }
}

impl Process {
    /// Signals through a descriptor of the process, since its number may belong to another process by now.
    fn signal(&self, signal: i32) -> Result<(), Errno> {
        sys::signal_process(self.pid, signal, || look_at(self.pid).is_some_and(|now| now.started == self.started))
    }

    fn identity(&self) -> Identity {
        Identity { pid: self.pid, started: self.started }
    }

    fn into_survivor(self) -> Survivor {
        Survivor { pid: self.pid, started: self.started, name: self.name }
    }

    /// Reads `/proc/PID/stat`. The name is in parentheses and may have any characters. The state is that of the first
    /// thread: a process whose first thread has ended is a zombie there, although other threads run.
    fn of_stat(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<_> = rest.split(' ').collect();
        Some(Self {
            pid: pid.parse().ok()?,
            name: name.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            is_dead: fields.first()?.starts_with(['Z', 'X']) && matches!(*fields.get(17)?, "0" | "1"),
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

/// All processes of the host that `/proc` shows, or none if this process has no child: then it has no descendant either,
/// and a look would cost more with each process of the host.
fn visible() -> Vec<Process> {
    if !sys::has_children() {
        return Vec::new();
    }
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    folders.filter_map(|folder| look_at(folder.file_name().to_str()?.parse::<i32>().ok()?)).collect()
}

/// The process with this number, or this process by the name `self`.
fn look_at(process: impl fmt::Display) -> Option<Process> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    Process::of_stat(&String::from_utf8_lossy(&stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reused_pid_of_a_spared_child_counts() {
        let process = |pid, parent, started| {
            let name = "a".to_owned();
            Process { pid, name, parent, group: pid, is_dead: false, started }
        };
        let (before, below) = (process(2, 1, 10), process(3, 2, 11));
        let tree = Tree { spared: HashSet::from([before.identity()]), init: None };
        assert_eq!(tree.below(1, vec![before, below.clone()]), []);
        let later = process(2, 1, 12);
        assert_eq!(tree.below(1, vec![below.clone(), later.clone()]), [later, below]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn reused_pid_of_a_survivor_is_left_out() {
        let own = look_at(Pid::this().as_raw()).unwrap().into_survivor();
        let ended = Survivor { started: own.started + 1, name: "ended".into(), ..own };
        assert_eq!(own.clone().renamed(), Some(own));
        assert_eq!(ended.renamed(), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn process_that_leaves_its_group_is_not_asked() {
        use std::io::Write as _;
        use std::os::unix::process::CommandExt as _;
        use std::process::{Command, Stdio};
        use std::time::Duration;

        let leader = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let group = leader.id().cast_signed();
        let mut leaver = Command::new("sh");
        leaver.args(["-c", "read word; exec setsid sleep 600"]).process_group(group).stdin(Stdio::piped());
        let mut leaver = leaver.spawn().unwrap();
        let tree = Tree { spared: HashSet::new(), init: None };
        let mut asked = HashSet::new();
        tree.ask_group(Pid::from_raw(group), &mut asked, || {
            leaver.stdin.take().unwrap().write_all(b"leave\n").unwrap();
            while look_at(leaver.id()).unwrap().group == group {
                assert!(!look_at(leaver.id()).unwrap().is_dead, "it ended in its group");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        assert_eq!(asked, HashSet::from([look_at(leader.id()).unwrap().identity()]));
        for mut child in [leader, leaver] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn any_name_of_a_process_is_read() {
        let stat = "77 (a) Z (b) S 12 76 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        let process = Process { pid: 77, name: "a) Z (b".into(), parent: 12, group: 76, is_dead: false, started: 4242 };
        assert_eq!(Process::of_stat(stat), Some(process));
        assert_eq!(Process::of_stat("77 (a"), None);
    }

    #[test]
    fn zombie_with_running_threads_is_alive() {
        for (state, threads, is_dead) in [("Z", 1, true), ("X", 0, true), ("Z", 2, false), ("S", 1, false)] {
            let stat = format!("77 (a) {state} 12 76 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 {threads} 0 4242 1 1");
            assert_eq!(Process::of_stat(&stat).unwrap().is_dead, is_dead, "{stat}");
        }
    }
}
