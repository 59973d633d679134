//! Helpers of the tests of the program.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rlock::{Client, Holder, ResourceName, Snapshot};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A name that no other test uses, also on a shared server.
pub(crate) fn unique(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Polls until there is a result.
pub(crate) fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, ask)
}

fn until_within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// `rlock`, started by a test. Dropping this kills it.
pub(crate) struct Rlock {
    child: Child,
    lines: Receiver<(Instant, String)>,
    heard: String,
    stdout: Option<JoinHandle<String>>,
    printed: Receiver<String>,
}

/// The status and the output of an ended `rlock`.
#[derive(Debug)]
pub(crate) struct Exited {
    /// The status as a shell shows it: 128 plus the number for a signal.
    pub(crate) status: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A server for the tests, and the facts about its store.
pub(crate) trait Store {
    /// The scheme of the store's URLs.
    const SCHEME: &str;
    /// A short TTL that the client can still keep extended.
    const SHORT_TTL: &str;

    /// The URL of a new server, which never had other clients.
    fn fresh_url(&self) -> String;

    /// The leftovers of `rlock bench` in the store.
    fn left_by_bench(&self) -> Vec<String>;
}

pub(crate) fn url(server: &impl Store) -> String {
    server.fresh_url()
}

impl Rlock {
    /// Runs it with `RLOCK_URL` set to the server.
    pub(crate) fn on(server: &impl Store, arguments: &[&str]) -> Self {
        Self::start(rlock(arguments).env("RLOCK_URL", url(server)))
    }

    /// Runs `sh -c SCRIPT` under the lock `name`.
    pub(crate) fn run_script(server: &impl Store, name: &str, options: &[&str], script: &str) -> Self {
        Self::on(server, &[&["run", name], options, &["--", "sh", "-c", script]].concat())
    }

    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the system starts another process");
        let stderr = child.stderr.take().expect("its errors were asked for");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _nobody_listens = sender.send((Instant::now(), line));
            }
        });
        let stdout = child.stdout.take().expect("its output was asked for");
        let (printer, printed) = channel();
        let stdout = thread::spawn(move || {
            let (mut stdout, mut text) = (BufReader::new(stdout), String::new());
            loop {
                let before = text.len();
                if stdout.read_line(&mut text).expect("the output is UTF-8") == 0 {
                    return text;
                }
                let _nobody_listens = printer.send(text[before..].to_owned());
            }
        });
        Self { child, lines, heard: String::new(), stdout: Some(stdout), printed }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("rlock has not been waited for");
    }

    /// Runs `sh -c SCRIPT` under the lock `name`, in a session without the terminal at which the tests may run.
    pub(crate) fn run_script_without_terminal(server: &impl Store, name: &str, options: &[&str], script: &str) -> Self {
        // `setsid` does not fork here: the child of a spawn leads no group.
        let mut command = Command::new("setsid");
        command.args([env!("CARGO_BIN_EXE_rlock"), "run", name]).args(options).args(["--", "sh", "-c", script]);
        Self::start(command.env("RLOCK_URL", url(server)))
    }

    /// Sends a signal, even if the process may have ended.
    pub(crate) fn signal_if_alive(&self, signal: Signal) {
        let _ended = kill(self.pid(), signal);
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Writes to its standard input.
    pub(crate) fn say(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("its input is open");
        stdin.write_all(text.as_bytes()).expect("rlock reads its input");
    }

    pub(crate) fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// The next line on standard error that contains `text`, and its time of arrival.
    pub(crate) fn hear(&mut self, text: &str) -> (Instant, String) {
        self.hear_any(&[text])
    }

    /// The next line that contains one of `texts`.
    pub(crate) fn hear_any(&mut self, texts: &[&str]) -> (Instant, String) {
        let started = Instant::now();
        loop {
            match self.lines.recv_timeout(PATIENCE.saturating_sub(started.elapsed())) {
                Ok((at, line)) => {
                    self.heard.push_str(&line);
                    self.heard.push('\n');
                    if texts.iter().any(|text| line.contains(text)) {
                        return (at, line);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without {texts:?}:\n{}", self.heard),
                Err(RecvTimeoutError::Timeout) => panic!("{texts:?}: not within {PATIENCE:?}:\n{}", self.heard),
            }
        }
    }

    /// The next line on standard output that contains `text`.
    pub(crate) fn hear_printed(&self, text: &str) -> String {
        loop {
            match self.printed.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(error) => panic!("{text:?} was not printed: {error}"),
            }
        }
    }

    /// Waits for its end.
    pub(crate) fn exit(self) -> Exited {
        self.exit_within(PATIENCE)
    }

    /// Waits for its end, within `limit`.
    pub(crate) fn exit_within(mut self, limit: Duration) -> Exited {
        self.close_stdin();
        let status: ExitStatus =
            until_within(limit, "the end of rlock", || self.child.try_wait().expect("it is a child"));
        while let Ok((_, line)) = self.lines.recv_timeout(PATIENCE) {
            self.heard.push_str(&line);
            self.heard.push('\n');
        }
        let stdout = self.stdout.take().map(|stdout| stdout.join().expect("its output was read")).unwrap_or_default();
        let signal = status.signal();
        let status = status.code().or_else(|| Some(128 + signal?));
        Exited { status, signal, stdout, stderr: std::mem::take(&mut self.heard) }
    }

    /// Waits for its end while other processes keep its streams open.
    pub(crate) fn exit_without_output(mut self) -> Exited {
        self.stdout = None;
        self.close_stdin();
        let status = until("the end of rlock", || self.child.try_wait().expect("it is a child"));
        while let Ok((_, line)) = self.lines.recv_timeout(Duration::from_millis(100)) {
            self.heard.push_str(&line);
            self.heard.push('\n');
        }
        let signal = status.signal();
        let status = status.code().or_else(|| Some(128 + signal?));
        Exited { status, signal, stdout: String::new(), stderr: std::mem::take(&mut self.heard) }
    }
}

impl Drop for Rlock {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Exited {
    #[track_caller]
    pub(crate) fn assert(&self, status: i32, stderr: &[&str]) {
        assert_eq!(self.status, Some(status), "{}", self.stderr);
        for text in stderr {
            assert!(self.stderr.contains(text), "{text:?} is missing in:\n{}", self.stderr);
        }
    }
}

/// The command, without a store.
pub(crate) fn rlock(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlock"));
    command.args(arguments).env_remove("RLOCK_URL").env_remove("RLOCK_NAME").env_remove("RLOCK_TOKEN");
    command
}

/// A folder for the files that programs under locks write.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("the system has a place for temporary files"))
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// A script in which `$D` is this folder.
    pub(crate) fn script(&self, script: &str) -> String {
        format!("D='{}'; {script}", self.0.path().display())
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    /// The content of `file` once it has `lines` lines.
    pub(crate) fn wait_for(&self, file: &str, lines: usize) -> String {
        until(file, || Some(self.read(file)).filter(|text| text.matches('\n').count() >= lines))
    }

    /// The process id in `file`.
    pub(crate) fn wait_for_process(&self, file: &str) -> Process {
        Process::from(Pid::from_raw(self.wait_for(file, 1).trim().parse().expect("a process id")))
    }
}

/// A process that a test did not start itself. Dropping this kills it, unless another process has its number by then.
pub(crate) struct Process(Pid, Option<String>);

impl Process {
    pub(crate) fn pid(&self) -> Pid {
        self.0
    }

    /// Whether it can still run an instruction.
    pub(crate) fn is_alive(&self) -> bool {
        Self::is_running(self.0)
    }

    /// Whether a process that the test does not kill is alive. A process with a pending SIGKILL runs no more
    /// instructions.
    pub(crate) fn is_running(pid: Pid) -> bool {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let pending = status.lines().filter(|line| line.starts_with("SigPnd:") || line.starts_with("ShdPnd:"));
        let signals = pending.filter_map(|line| u64::from_str_radix(line.split('\t').nth(1)?, 16).ok());
        if signals.fold(0, |all, signals| all | signals) & (1 << (Signal::SIGKILL as i32 - 1)) != 0 {
            return false;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_in_state('T')
    }

    fn is_in_state(&self, expected: char) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(expected))
    }

    pub(crate) fn wait_until_dead(&self) {
        until("the end of a process", || (!self.is_alive()).then_some(()));
    }

    /// Waits until its parent has reaped it.
    pub(crate) fn wait_until_reaped(&self) {
        until("the end of a process", || (start_of(self.0) != self.1).then_some(()));
    }

    pub(crate) fn wait_until_stopped(&self) {
        until("the stop of a process", || self.is_stopped().then_some(()));
    }
}

/// The parent of a process.
pub(crate) fn parent_of(pid: Pid) -> Pid {
    parent_of_any(pid).expect("it runs")
}

/// The children of a process.
pub(crate) fn children_of(pid: Pid) -> Vec<Pid> {
    let folders = fs::read_dir("/proc").expect("it is mounted").flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    pids.filter(|child| Process::is_running(*child) && parent_of_any(*child) == Some(pid)).collect()
}

fn parent_of_any(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(1)?.parse().ok().map(Pid::from_raw)
}

/// The time at which a process was started.
fn start_of(pid: Pid) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19).map(str::to_owned)
}

impl From<Pid> for Process {
    fn from(pid: Pid) -> Self {
        Self(pid, start_of(pid))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_alive() && self.1 == start_of(self.0) {
            let _ended_already = kill(self.0, Signal::SIGKILL);
        }
    }
}

/// A client of the test, which looks at the store.
pub(crate) struct Observer {
    runtime: Runtime,
    client: Client,
}

impl Observer {
    pub(crate) fn of(server: &impl Store) -> Self {
        let runtime = Runtime::new().expect("the system has threads left");
        let client = runtime.block_on(rlock::connect(&url(server))).expect("the server runs");
        Self { runtime, client }
    }

    pub(crate) fn look(&self, name: &str) -> Snapshot {
        let name = ResourceName::new(name).expect("tests use good names");
        self.runtime.block_on(self.client.inspect(&name)).expect("the server answers")
    }

    pub(crate) fn holder(&self, name: &str) -> Option<Holder> {
        self.look(name).holders.into_iter().next()
    }

    pub(crate) fn break_lock(&self, name: &str) {
        let name = ResourceName::new(name).expect("tests use good names");
        assert_eq!(self.runtime.block_on(self.client.break_leases(&name)).expect("the server answers"), 1);
    }

    pub(crate) fn wait_for_queue(&self, name: &str, len: usize) {
        until("the queue", || (self.look(name).queue.len() == len).then_some(()));
    }
}

/// Blocks until an action on a server has completed.
pub(crate) fn wait_for(done: impl Future<Output = ()>) {
    Runtime::new().expect("the system has threads left").block_on(done);
}
