//! Server programs of this machine.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, io};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const READY_WITHIN: Duration = Duration::from_secs(20);
const BETWEEN_PROBES: Duration = Duration::from_millis(5);

/// A server program that runs. Dropping this kills it.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
}

impl Program {
    /// The first of `names` that the `PATH` has.
    pub(super) fn find(names: &[&str]) -> Option<PathBuf> {
        let path = env::var_os("PATH")?;
        let folders: Vec<_> = env::split_paths(&path).collect();
        names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file()))
    }

    /// Runs `command` in `folder`, and returns when `is_ready` says so of its process id: on the port that
    /// was free, somebody else's server may be listening by now.
    ///
    /// # Errors
    ///
    /// If it ended before, or took too long: with what it had to say.
    pub(super) fn start(mut command: Command, folder: &Path, is_ready: impl Fn(u32) -> bool) -> io::Result<Self> {
        let log_file = folder.join("server.log");
        let log = File::create(&log_file)?;
        command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut program = Self { child: command.spawn()? };
        let started = Instant::now();
        loop {
            let ended = program.child.try_wait()?.is_some();
            if !ended && is_ready(program.child.id()) {
                return Ok(program);
            }
            if ended || started.elapsed() > READY_WITHIN {
                let log = fs::read_to_string(&log_file).unwrap_or_default();
                return Err(io::Error::other(format!("{command:?} did not become ready: {log}")));
            }
            thread::sleep(BETWEEN_PROBES);
        }
    }
}

impl Program {
    /// Freezes it with SIGSTOP.
    pub(super) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it run again after a [`pause`](Self::pause).
    pub(super) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("process ids are positive numbers of 31 bits");
        kill(Pid::from_raw(id), signal).expect("the server has not been waited for");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A port of the loopback interface that was free a moment ago.
pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}
