//! The keeper, seen from `rlock`.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, exit};
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rlock::{Clock, Moment};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::keep::{Namespace, News, Order, Tree, keep, to_line};
use crate::ready::ready;
use crate::run::error::shown;
use crate::run::start_error::StartError;
use crate::sys::{self, Child};

/// A process that keeps the program's tree. Dropping this dismisses the keeper and waits up to 100 ms for its end: in a
/// container there may be no other process that reaps it.
#[derive(Debug)]
pub(super) struct Keeper {
    /// `None` once it has been killed and reaped.
    pid: Option<Pid>,
    /// The name of the program's PID namespace, if it has one of its own.
    namespace: Option<String>,
    epoch: Moment,
    /// The processes that `rlock` inherits from a keeper that dies.
    tree: Tree,
    orders: OwnedWriteHalf,
    news: Lines<BufReader<OwnedReadHalf>>,
    program: Option<Pid>,
    has_ended: bool,
    mode: Mode,
    /// News from `rlock` itself, once the keeper is dead.
    own_news: VecDeque<News>,
    /// The longest time until the keeper has started the program.
    patience: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    /// The keeper keeps the tree. After an order to kill, it has to answer by this time.
    Kept { answers_by: Option<Instant> },
    /// The keeper is dead, and `rlock` kills the tree. The next look is at this time.
    Inherited { next: Instant, kills: u32 },
    /// The tree is gone.
    Over,
}

/// A forked keeper, before there is a runtime that receives its news.
#[derive(Debug)]
pub(crate) struct Forked {
    pid: Pid,
    epoch: Moment,
    tree: Tree,
    stream: UnixStream,
    /// The longest time until the keeper is ready, and then until it has started the program.
    patience: Duration,
}

impl Forked {
    /// Even a loaded host takes less.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Forks the keeper. Call this before the process has a second thread.
    pub(crate) fn new(command: &[OsString], namespace: Namespace) -> io::Result<Self> {
        if !Tree::can_be_seen() {
            return Err(io::Error::other(
                "rlock needs /proc mounted, and in a PID namespace its own (unshare --mount-proc), to see the \
                 processes that the program starts",
            ));
        }
        make_sure_of_descriptors()?;
        let (stream, rlock) = UnixStream::pair()?;
        let epoch = Clock::boot().now();
        let tree = Tree::of_this_process();
        sys::adopt_orphans();
        let parent = std::process::id();
        let forked = sys::fork().map_err(|error| {
            let remedy =
                StartError::remedy_of_the_system(&error).unwrap_or("check the limits of the user and of the container");
            io::Error::other(format!("the keeper cannot be started: {error}; {remedy}"))
        })?;
        let Some(pid) = forked else {
            drop(stream);
            exit(i32::from(keep(rlock, command, namespace, epoch, parent).is_err()));
        };
        stream.set_nonblocking(true)?;
        Ok(Self { pid, epoch, tree, stream, patience: Self::PATIENCE })
    }
}

/// Checks that enough descriptors are free. Without the check, a runtime or a connection could fail or panic while the
/// lock is held.
fn make_sure_of_descriptors() -> io::Result<()> {
    const NEEDED: usize = 20;
    let open = || -> io::Result<()> {
        let first = File::open("/dev/null")?;
        let more: io::Result<Vec<_>> = (1..NEEDED).map(|_| first.try_clone()).collect(); // no lookups of the path
        more.map(drop)
    };
    open().map_err(|error| io::Error::other(format!("rlock needs more open files (ulimit -n): {error}")))
}

impl Keeper {
    /// Returns once the keeper is ready.
    ///
    /// # Errors
    ///
    /// The keeper has ended, or it was not ready in time and was killed.
    pub(super) async fn meet(forked: Forked) -> io::Result<Self> {
        let Forked { pid, epoch, tree, stream, patience } = forked;
        let (news, orders) = tokio::net::UnixStream::from_std(stream)?.into_split();
        let mode = Mode::Kept { answers_by: None };
        let news = BufReader::new(news).lines();
        let own_news = VecDeque::new();
        let (pid, namespace, program, has_ended) = (Some(pid), None, None, false);
        let mut keeper =
            Self { pid, namespace, epoch, tree, orders, news, program, has_ended, mode, own_news, patience };
        match keeper.line_by(Instant::now() + patience).await {
            Some(Some(News::Ready { namespace })) => {
                keeper.namespace = namespace;
                Ok(keeper)
            }
            Some(Some(News::NoNamespace(error))) => {
                let error = io::Error::from_raw_os_error(error);
                let remedy = StartError::remedy_of_the_system(&error).unwrap_or("leave out --pid-namespace");
                Err(io::Error::other(format!(
                    "the system does not let this user make a PID namespace: {error}; {remedy}"
                )))
            }
            Some(_) => Err(io::Error::other("the keeper did not start: raise the limits of processes and open files")),
            None => {
                keeper.inherit();
                let within = shown(patience);
                Err(io::Error::other(format!(
                    "the keeper was not ready within {within} and was killed: was it stopped?"
                )))
            }
        }
    }

    /// The process id of the keeper, or of this process once the keeper is dead.
    pub(super) fn pid(&self) -> Pid {
        self.pid.unwrap_or(Pid::this())
    }

    /// The name of the program's PID namespace, if it has one of its own.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Starts the program. The keeper kills it at the time `until`, unless [`extend`](Self::extend) sets a later one. In
    /// a PID namespace, the system does so a `margin` later. A keeper that does not answer by that time, within a minute
    /// at most, is killed. Once the lock is `lost`, it has to answer within `margin`: the program may run already.
    pub(super) async fn start(
        &mut self,
        environment: Vec<(String, String)>,
        in_front: bool,
        until: Option<Moment>,
        margin: Duration,
        lost: impl Future<Output = ()>,
    ) -> Result<Pid, NotStarted> {
        let asked = Instant::now();
        let limit = until.map_or(self.patience, |until| until.since(Clock::boot().now()).min(self.patience));
        let until = until.map(|until| self.count(until));
        let line = to_line(&Order::Start { environment, in_front, until, margin });
        let _dead_if_unwritten = self.orders.write_all(line.as_bytes()).await;
        self.wake();
        let line = tokio::select! {
            line = self.line_by(asked + limit) => line,
            () = lost => {
                self.wake();
                self.line_by((asked + limit).min(Instant::now() + margin)).await
            }
        };
        let (answer, failure) = match line {
            Some(answer) => (answer, NotStarted::KeeperDied),
            None => (None, NotStarted::Unanswered { waited: asked.elapsed() }),
        };
        match answer {
            Some(News::Started(pid)) => {
                let pid = Pid::from_raw(pid);
                self.program = Some(pid);
                Ok(pid)
            }
            Some(News::NotStarted(error)) => Err(NotStarted::Refused(io::Error::from_raw_os_error(error))),
            Some(News::TooLate) => Err(NotStarted::TooLate),
            _ => {
                // The keeper may have started the program before it died, or before it was stopped.
                self.inherit();
                while !matches!(self.mode, Mode::Over) {
                    self.news().await;
                }
                Err(failure)
            }
        }
    }

    /// Sends the keeper the time at which it has to kill the tree.
    pub(super) fn extend(&self, until: Moment) {
        self.order(&Order::Until(self.count(until)));
    }

    /// The nanoseconds from the epoch to `until`.
    fn count(&self, until: Moment) -> u64 {
        u64::try_from(until.since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Sends a signal to the program's group, or to the whole tree once the program has ended.
    pub(super) fn signal(&self, signal: Signal) {
        self.order(&Order::Signal(signal as i32));
    }

    pub(super) fn signal_tree(&self, signal: Signal) {
        self.order(&Order::SignalTree(signal as i32));
    }

    /// Sends TERM to each process of the tree that has not got it before.
    pub(super) fn ask_to_end(&self) {
        self.order(&Order::AskToEnd);
    }

    /// Kills the tree. A keeper that does not answer within `patience` is killed before it.
    pub(super) fn kill(&mut self, patience: Duration) {
        self.order(&Order::Kill);
        if let Mode::Kept { answers_by } = &mut self.mode {
            *answers_by = Some(Instant::now() + patience);
        }
    }

    /// Ends the keeper, and leaves alone what is left of the tree. Does not wait for its end.
    pub(super) fn dismiss(&self) {
        self.order(&Order::Dismiss);
    }

    fn order(&self, order: &Order) {
        if self.pid.is_some() {
            // A full buffer means that the keeper is stopped. `kill` then kills it after its patience.
            let _full = self.orders.try_write(to_line(order).as_bytes());
            self.wake();
        }
    }

    /// Continues the keeper. A stopped one would not read its orders.
    fn wake(&self) {
        let _dead = self.pid.map(|pid| kill(pid, Signal::SIGCONT));
    }

    /// The next news of the tree.
    ///
    /// # Cancel safety
    ///
    /// No news is lost when the future is dropped.
    pub(super) async fn news(&mut self) -> News {
        loop {
            if let Some(news) = self.own_news.pop_front() {
                return news;
            }
            match self.mode {
                Mode::Kept { answers_by } => {
                    let news = match answers_by {
                        Some(time) => self.line_by(time).await.flatten(),
                        None => self.next_line().await,
                    };
                    match news {
                        Some(news) => return self.heard(news),
                        None => self.inherit(),
                    }
                }
                Mode::Inherited { next, .. } => {
                    sleep_until(next).await;
                    self.clear();
                }
                Mode::Over => std::future::pending().await,
            }
        }
    }

    /// The next line, or `None` if there is none at `time`.
    ///
    /// A line that came while this process was stopped counts, although the time is up before the runtime sees it.
    async fn line_by(&mut self, time: Instant) -> Option<Option<News>> {
        if let Ok(line) = timeout_at(time, self.next_line()).await {
            return Some(line);
        }
        ready(self.next_line()).await
    }

    async fn next_line(&mut self) -> Option<News> {
        serde_json::from_str(&self.news.next_line().await.ok()??).ok()
    }

    fn heard(&mut self, news: News) -> News {
        match news {
            News::Ended(_) => self.has_ended = true,
            News::Gone => self.mode = Mode::Over,
            News::Killing(_) => self.mode = Mode::Kept { answers_by: None },
            _ => {}
        }
        news
    }

    /// Kills the keeper, if it is not dead already, and with it on Linux the program. The rest of the tree gets a new
    /// parent: this process.
    fn inherit(&mut self) {
        if let Some(pid) = self.pid.take() {
            let _dead = kill(pid, Signal::SIGKILL);
            let _status = waitpid(pid, None);
        }
        self.mode = Mode::Inherited { next: Instant::now(), kills: 0 };
        self.own_news.push_back(News::KeeperDied);
    }

    /// Kills the rest of the tree, and reaps the dead.
    fn clear(&mut self) {
        let Mode::Inherited { kills, .. } = self.mode else { return };
        // On Linux the keeper may have reaped the program, and its group number may belong to another group.
        if let Some(program) = self.program.filter(|_| !cfg!(target_os = "linux")) {
            let _gone = sys::signal_group(program, libc::SIGKILL);
        }
        let is_gone = self.tree.is_gone();
        let refused = self.tree.signal(libc::SIGKILL);
        if kills == 0 || !refused.is_empty() && kills == 10 {
            self.own_news.push_back(News::Killing(refused));
        }
        while let Child::Changed(pid, status) = sys::next_child() {
            if Some(pid) == self.program && status.stopped_signal().is_none() {
                self.end(status);
            }
        }
        let pause = Duration::from_millis(u64::from(kills.clamp(1, 100)));
        self.mode = Mode::Inherited { next: Instant::now() + pause, kills: kills.saturating_add(1) };
        if is_gone {
            // The keeper reaped the program before it died, so the real status is unknown.
            self.end(ExitStatus::from_raw(libc::SIGKILL));
            self.own_news.push_back(News::Gone);
            self.mode = Mode::Over;
        }
    }

    fn end(&mut self, status: ExitStatus) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.own_news.push_back(News::Ended(status.into_raw()));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        const MOMENT: Duration = Duration::from_micros(200);
        const MOMENTS: usize = 500;

        self.dismiss();
        let Some(pid) = self.pid.take() else { return };
        let is_there = || waitpid(pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive);
        (0..MOMENTS).take_while(|_| is_there()).for_each(|_| thread::sleep(MOMENT));
    }
}

/// Why the program was not started.
#[derive(Debug)]
pub(super) enum NotStarted {
    Refused(io::Error),
    /// The lock was about to end.
    TooLate,
    /// The keeper was killed, and all that it had started was killed with it.
    KeeperDied,
    /// The keeper did not answer, and was killed with all that it had started.
    Unanswered {
        waited: Duration,
    },
}

#[cfg(test)]
pub(super) mod tests;
