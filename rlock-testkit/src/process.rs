//! Helper processes: a test starts its own executable again, in a role.
//!
//! A lock has to survive the death of a process, so tests need other processes. The executable of the test also serves
//! as the helper, so that no other program has to be built and found. The test function first checks whether it runs as
//! a helper:
//!
//! ```no_run
//! use rlock_testkit::process::Helper;
//!
//! fn killed_holder_is_replaced() {
//!     if let Some(helper) = Helper::current() {
//!         helper.say(format_args!("hello, I am a {}", helper.role()));
//!         return;
//!     }
//!     let holder = rlock_testkit::this_test!().start("holder");
//!     holder.kill();
//! }
//! ```

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::servers::end_descendants;
use crate::wait::within;

const ROLE: &str = "RLOCK_TEST_HELPER";
const SETTING: &str = "RLOCK_TEST_HELPER_";
/// Marks each line of a helper, to separate it from the output of the test framework.
const MARK: &str = "rlock-helper: ";
const HEARD_WITHIN: Duration = Duration::from_secs(30);

/// This process, if a test started it as its helper.
///
/// It ends by itself when the test process has ended.
#[derive(Debug)]
pub struct Helper {
    role: String,
    heard: UnboundedReceiver<String>,
}

impl Helper {
    /// `None` in a process that a person or a test runner started. May be called once.
    pub fn current() -> Option<Self> {
        let role = env::var(ROLE).ok()?;
        let (lines, heard) = unbounded_channel();
        thread::spawn(move || {
            for line in io::stdin().lines().map_while(Result::ok) {
                let _no_listener = lines.send(line);
            }
            std::process::exit(0)
        });
        Some(Self { role, heard })
    }

    /// The role that the helper was started in.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The value that [`Program::with`] set for `name`.
    ///
    /// # Panics
    ///
    /// Panics if no value was set.
    pub fn setting(&self, name: &str) -> String {
        env::var(format!("{SETTING}{name}")).unwrap_or_else(|_| panic!("the helper was started without {name}"))
    }

    /// Sends a line to the test.
    pub fn say(&self, line: impl Display) {
        let mut stdout = io::stdout().lock();
        let _test_gone = writeln!(stdout, "\n{MARK}{line}").and_then(|()| stdout.flush());
    }

    /// The next line from the test. It stays pending when the test process has ended, because this process ends then
    /// too.
    ///
    /// # Cancel safety
    ///
    /// No line is lost when the future is dropped.
    pub async fn hear(&mut self) -> String {
        match self.heard.recv().await {
            Some(line) => line,
            None => std::future::pending().await,
        }
    }
}

/// The test function around the call, as a [`Program`](crate::process::Program): its name cannot go stale.
#[macro_export]
macro_rules! this_test {
    () => {{
        fn inner() {}
        $crate::process::Program::around(::core::any::type_name_of_val(&inner))
    }};
}

/// A program to start helpers from: one test function of this executable, or the whole executable.
#[derive(Debug, Clone)]
pub struct Program {
    arguments: Vec<String>,
    settings: Vec<(String, String)>,
}

impl Program {
    /// The test `function` in the module that `module_path!()` names. [`this_test!`](crate::this_test) names the test
    /// that calls it.
    pub fn test(module_path: &str, function: &str) -> Self {
        let test = match module_path.split_once("::") {
            Some((_crate, module)) => format!("{module}::{function}"),
            None => function.into(),
        };
        Self { arguments: vec![test, "--exact".into(), "--nocapture".into()], settings: Vec::new() }
    }

    #[doc(hidden)]
    pub fn around(inner_function: &str) -> Self {
        let (test, _inner) = inner_function.rsplit_once("::").expect("a function in a function");
        let test = test.trim_end_matches("::{{closure}}");
        let (module_path, function) = test.rsplit_once("::").expect("a function in a crate");
        Self::test(module_path, function)
    }

    /// This executable, whose `main` has to check [`Helper::current`] first.
    pub fn this_one() -> Self {
        Self { arguments: Vec::new(), settings: Vec::new() }
    }

    /// Sets `value` for [`Helper::setting`].
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        self.settings.push((format!("{SETTING}{name}"), value.to_string()));
        self
    }

    /// Starts a helper in `role`.
    ///
    /// # Panics
    ///
    /// Panics if the operating system cannot start it.
    pub fn start(&self, role: &str) -> Process {
        let mut child = Command::new(env::current_exe().expect("the system knows which program this is"))
            .args(&self.arguments)
            .env(ROLE, role)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the system starts another process");
        let stdout = child.stdout.take().expect("its output is piped");
        let (lines, heard) = unbounded_channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix(MARK) {
                    let _no_listener = lines.send(line.to_owned());
                }
            }
        });
        Process { stdin: child.stdin.take(), child, heard }
    }
}

/// A running helper. Dropping this kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    heard: UnboundedReceiver<String>,
}

impl Process {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line to the helper.
    ///
    /// # Panics
    ///
    /// Panics if the helper has ended.
    pub fn say(&mut self, line: impl Display) {
        let stdin = self.stdin.as_mut().expect("its input is piped");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("the helper listens");
    }

    /// The next line from the helper.
    ///
    /// # Panics
    ///
    /// Panics if the helper ends first, or sends nothing for 30 s.
    pub async fn hear(&mut self) -> String {
        within(HEARD_WITHIN, "a line from another process", self.heard.recv()).await.expect("the helper has not ended")
    }

    /// The next line from the helper; `None` if it ends first, or sends nothing within `limit`.
    pub async fn hear_within(&mut self, limit: Duration) -> Option<String> {
        timeout(limit, self.heard.recv()).await.ok().flatten()
    }

    /// The lines that the helper has sent and the test has not read yet.
    pub fn unheard(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }

    /// Kills the helper with SIGKILL, so that it releases nothing.
    pub fn kill(self) {
        drop(self);
    }

    /// Kills the helper as [`kill`](Self::kill), and returns the lines that it has sent and the test has not read yet.
    /// If it had ended by itself, the last line says how.
    pub async fn kill_and_hear(mut self) -> Vec<String> {
        let status = self.end();
        let mut lines = Vec::new();
        while let Some(line) = self.heard.recv().await {
            lines.push(line);
        }
        let by_itself = status.filter(|status| status.signal() != Some(Signal::SIGKILL as i32));
        lines.extend(by_itself.map(|status| format!("it had ended by itself: {status}")));
        lines
    }

    /// Freezes the helper with SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets the helper continue after a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn end(&mut self) -> Option<ExitStatus> {
        let _ended_already = self.child.kill();
        self.child.wait().ok()
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("process ids are positive numbers of 31 bits");
        kill(Pid::from_raw(id), signal).expect("the helper has not been reaped");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a test on a runtime with two threads: a test that also runs as a helper is no `async` function.
///
/// # Panics
///
/// Panics if the system has no threads left.
pub fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("the system has threads").block_on(test);
}

/// Kills all descendants of this process, such as helpers and servers, and waits until they have ended. A process that
/// hangs calls it before it ends itself. Containers keep running. Does nothing on other systems than Linux.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn kill_descendants() -> io::Result<()> {
    end_descendants()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn helper_that_ended_by_itself_is_noticed() {
        if let Some(helper) = Helper::current() {
            helper.say("hello");
            std::process::exit(3);
        }
        let mut process = this_test!().start("any role");
        assert_eq!(process.hear().await, "hello");
        assert_eq!(process.hear_within(HEARD_WITHIN).await, None);
        assert_eq!(process.kill_and_hear().await, ["it had ended by itself: exit status: 3"]);
    }

    #[test]
    fn this_test_is_named_from_anywhere_in_it() {
        let name = "process::tests::this_test_is_named_from_anywhere_in_it";
        assert_eq!(this_test!().arguments[0], name);
        let in_closures = [()].map(|()| [()].map(|()| this_test!().arguments[0].clone()));
        assert_eq!(in_closures, [[name]]);
    }
}
