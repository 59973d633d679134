//! The keeper's process.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, setpgid};
use rlock::{Clock, Moment};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::alarm::Alarm;
use super::launch::Launch;
use super::message::{News, Order, to_line};
use super::namespace::{Init, Namespace};
use super::tree::{Identity, Tree};
use crate::ready::ready;
use crate::sys::{self, Child};

/// Does the keeper's work, from the fork to the end of the process. Times are counted from `epoch`. `parent` is the
/// process id of `rlock`.
pub(crate) fn keep(
    mut rlock: UnixStream,
    command: &[OsString],
    namespace: Namespace,
    epoch: Moment,
    parent: u32,
) -> io::Result<()> {
    // The keeper blocks signals: a terminal or a service manager that sends them to every process means `rlock`.
    SigSet::all().thread_block()?;
    SigSet::from_iter([Signal::SIGCHLD]).thread_unblock()?;
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    sys::adopt_orphans();
    let mut tree = Tree::of_this_process();
    let (init, alarm) = match namespace {
        Namespace::Shared => (None, None),
        Namespace::Own => {
            let init = Init::start().inspect_err(|error| {
                let refused = News::NoNamespace(error.raw_os_error().unwrap_or(libc::EIO));
                let _rlock_is_dead = rlock.write_all(to_line(&refused).as_bytes());
            })?;
            tree.set_init(init.pid());
            (Some(init), Some(Alarm::new()?))
        }
    };
    let keeper = KeeperState::new(rlock.try_clone()?, parent, epoch, tree, init, alarm);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(attend(rlock, command, keeper))
}

async fn attend(rlock: UnixStream, command: &[OsString], mut keeper: KeeperState) -> io::Result<()> {
    let mut children = signal(SignalKind::child())?;
    rlock.set_nonblocking(true)?;
    let mut orders = BufReader::new(tokio::net::UnixStream::from_std(rlock)?).lines();
    let clock = Clock::boot();
    let namespace = keeper.init.as_ref().map(|init| init.name().to_owned());
    keeper.tell(&News::Ready { namespace });
    let mut is_listening = true;
    loop {
        let until = keeper.until.filter(|_| !keeper.is_killing);
        let order = tokio::select! {
            order = orders.next_line(), if is_listening => Some(order),
            _ = children.recv() => {
                keeper.reap();
                None
            }
            () = clock.sleep_until(until.unwrap_or_default()), if until.is_some() => {
                let order = ready(orders.next_line()).await; // it may have a later time
                if order.is_none() {
                    keeper.end_late();
                }
                order
            }
            () = sleep_until(keeper.look_at), if keeper.is_killing => {
                keeper.kill();
                None
            }
        };
        if let Some(line) = order {
            match line.ok().flatten().as_deref().map(serde_json::from_str) {
                Some(Ok(Order::Start { until, .. })) if until.is_some_and(|at| clock.now() >= keeper.at(at)) => {
                    keeper.tell(&News::TooLate);
                }
                Some(Ok(Order::Dismiss)) => return Ok(()),
                Some(Ok(order)) => keeper.obey(order, command),
                // `rlock` has died.
                Some(Err(_)) | None => {
                    is_listening = false;
                    keeper.kill();
                }
            }
        }
        if keeper.is_gone || !is_listening && keeper.program.is_none() {
            return Ok(());
        }
    }
}

/// The state of the keeper, in its own process.
struct KeeperState {
    rlock: UnixStream,
    /// The process id of `rlock`.
    parent: u32,
    epoch: Moment,
    tree: Tree,
    /// The first process of the program's PID namespace, if it has one of its own.
    init: Option<Init>,
    program: Option<Pid>,
    /// The processes that got TERM. Some programs do not clean up when they get it twice.
    asked: HashSet<Identity>,
    has_ended: bool,
    is_gone: bool,
    until: Option<Moment>,
    /// Set in a PID namespace, which ends with this process. It rings this `margin` after `until`.
    alarm: Option<Alarm>,
    margin: Duration,
    is_killing: bool,
    kills: u32,
    /// The time of the next look at the tree while the keeper kills it. The deaths of orphans do not move it.
    look_at: Instant,
}

impl KeeperState {
    fn new(
        rlock: UnixStream,
        parent: u32,
        epoch: Moment,
        tree: Tree,
        init: Option<Init>,
        alarm: Option<Alarm>,
    ) -> Self {
        Self {
            rlock,
            parent,
            epoch,
            tree,
            init,
            program: None,
            asked: HashSet::new(),
            has_ended: false,
            is_gone: false,
            until: None,
            alarm,
            margin: Duration::ZERO,
            is_killing: false,
            kills: 0,
            look_at: Instant::now(),
        }
    }

    fn tell(&mut self, news: &News) {
        let _rlock_is_dead = self.rlock.write_all(to_line(news).as_bytes());
    }

    fn at(&self, nanos: u64) -> Moment {
        self.epoch.after(Duration::from_nanos(nanos))
    }

    fn set_until(&mut self, until: u64) {
        let until = self.at(until);
        self.until = Some(until);
        if let Some(alarm) = &mut self.alarm {
            alarm.set(until.after(self.margin).since(Clock::boot().now()));
        }
    }

    fn obey(&mut self, order: Order, command: &[OsString]) {
        match order {
            Order::Start { environment, in_front, until, margin } => {
                self.margin = margin;
                if let Some(until) = until {
                    self.set_until(until);
                }
                // A stopped keeper would not see that `rlock` has died.
                let (namespace, at_death) = match self.init {
                    Some(_) => (Namespace::Own, Signal::SIGKILL),
                    None => (Namespace::Shared, Signal::SIGCONT),
                };
                let start = |()| Launch::of(command).start(environment, in_front, namespace);
                match sys::signal_at_death_of(self.parent, at_death).and_then(start) {
                    Ok(pid) => {
                        sys::hurry();
                        self.program = Some(pid);
                        self.tell(&News::Started(pid.as_raw()));
                    }
                    Err(error) => self.tell(&News::NotStarted(error.raw_os_error().unwrap_or(libc::EIO))),
                }
            }
            Order::Until(until) => self.set_until(until),
            Order::Signal(signal) => self.signal(signal),
            Order::SignalTree(signal) => self.signal_tree(signal),
            Order::AskToEnd => self.tree.ask_to_end(&mut self.asked),
            Order::Kill => {
                self.is_killing = false; // every order gets an answer
                self.kill();
            }
            Order::Dismiss => {}
        }
    }

    /// Once the program has been reaped, its group number may belong to another group.
    fn signal(&mut self, signal: i32) {
        let Some(program) = self.program.filter(|_| !self.has_ended) else { return self.signal_tree(signal) };
        let send = || {
            let _gone = sys::signal_group(program, signal);
        };
        if signal == libc::SIGTERM { self.tree.ask_group(program, &mut self.asked, send) } else { send() }
    }

    fn signal_tree(&mut self, signal: i32) {
        if signal == libc::SIGTERM {
            self.asked.extend(self.tree.living());
        }
        let _refused = self.tree.signal(signal);
    }

    /// Kills what is left of the tree, whose time is up. A tree that has ended is not late, even if its end is still
    /// unread.
    fn end_late(&mut self) {
        self.reap();
        if self.is_gone {
            return;
        }
        // Of a tree that has ended, the first process of the namespace may be left.
        if !self.has_ended || !self.tree.survivors().is_empty() {
            self.tell(&News::Late);
        }
        self.kill();
    }

    /// Kills every process that a look finds. The next look finds those that were forked meanwhile.
    fn kill(&mut self) {
        // Outside Linux the tree is not visible: only the group can be killed.
        if let Some(program) = self.program.filter(|_| !self.has_ended || !cfg!(target_os = "linux")) {
            let _gone = killpg(program, Signal::SIGKILL);
        }
        let refused = self.tree.signal(libc::SIGKILL);
        if !self.is_killing || !refused.is_empty() && self.kills == 10 {
            self.tell(&News::Killing(refused));
        }
        self.is_killing = true;
        self.kills = self.kills.saturating_add(1);
        // A killed process takes a moment to die, and may have forked before.
        self.look_at = Instant::now() + Duration::from_millis(u64::from(self.kills.clamp(1, 100)));
        self.reap();
    }

    /// Reaps dead children, and reports what happened to the program.
    fn reap(&mut self) {
        loop {
            match sys::next_child() {
                Child::Changed(pid, status) if Some(pid) == self.program => {
                    if let Some(signal) = status.stopped_signal() {
                        self.tell(&News::Stopped(signal));
                    } else {
                        self.has_ended = true;
                        self.tell(&News::Ended(status.into_raw()));
                        let left = self.tree.survivors();
                        if !left.is_empty() {
                            self.tell(&News::Left(left));
                        }
                    }
                }
                Child::Changed(..) => {}
                Child::Unchanged => return self.release_init(),
                Child::None => {
                    if self.has_ended && !std::mem::replace(&mut self.is_gone, true) {
                        self.tell(&News::Gone);
                    }
                    return;
                }
            }
        }
    }

    /// Lets the first process of the namespace end once only its descendants are left. A program can start siblings
    /// (`CLONE_PARENT`), which are children of this process.
    fn release_init(&mut self) {
        let Some(init) = self.init.as_mut().filter(|init| !init.is_released()) else { return };
        if self.has_ended && self.tree.has_only_init() {
            init.release();
        }
    }
}
