//! Helpers of the tests of the program.

mod folder;
mod process;
#[cfg(feature = "sqlite")]
mod users;
mod wait;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rlock::{Client, Holder, Snapshot};
use tokio::runtime::Runtime;

pub(crate) use self::folder::Folder;
pub(crate) use self::process::{Process, children_of, parent_of};
#[cfg(feature = "sqlite")]
pub(crate) use self::users::{copy_for_all_users, is_root};
use self::wait::until_within;
pub(crate) use self::wait::{PATIENCE, until, wait_for};

/// A TTL that a test can wait out, and that a client on a busy machine keeps extended.
pub(crate) const SHORT_TTL: &str = "2s";

/// A name that no other test uses, also on a shared server.
pub(crate) fn unique(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
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

    /// The URL of a new server, which never had other clients.
    fn fresh_url(&self) -> String;

    /// The data in the store of all namespaces whose names contain `part`, and the files of `rlock bench`.
    #[cfg(any(feature = "bench", feature = "suite"))]
    fn left_in(&self, part: &str) -> Vec<String>;

    /// The leftovers of `rlock bench` in the store.
    #[cfg(feature = "bench")]
    fn left_by_bench(&self) -> Vec<String> {
        self.left_in("rlock-bench-")
    }

    /// The leftovers of the cases of `rlock check` in the store.
    #[cfg(feature = "suite")]
    fn left_by_check(&self) -> Vec<String> {
        self.left_in("rlock-test-")
    }
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
                let _no_listener = sender.send((Instant::now(), line));
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
                let _no_listener = printer.send(text[before..].to_owned());
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

    /// All lines on standard error up to now.
    pub(crate) fn heard(&mut self) -> &str {
        for (_, line) in self.lines.try_iter() {
            self.heard.push_str(&line);
            self.heard.push('\n');
        }
        &self.heard
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

    /// Looks again if a busy server is slow to answer.
    pub(crate) fn look(&self, name: &str) -> Snapshot {
        until("an answer of the server", || self.runtime.block_on(self.client.inspect(name)).ok())
    }

    pub(crate) fn holder(&self, name: &str) -> Option<Holder> {
        self.look(name).holders.into_iter().next()
    }

    pub(crate) fn break_lock(&self, name: &str) {
        assert_eq!(self.runtime.block_on(self.client.break_leases(name)).expect("the server answers"), 1);
    }

    pub(crate) fn wait_for_queue(&self, name: &str, len: usize) {
        until("the queue", || (self.look(name).queue.len() == len).then_some(()));
    }
}
