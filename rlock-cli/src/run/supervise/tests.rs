use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::Arc;

use clap::Parser;
use futures_util::future::join;
use nix::sys::signal::raise;
use rlock::memory::MemoryStore;
use rlock::{Client, Clock, LockOptions, Namespace, SimpleLock};
use rlock_testkit::faults::{Faults, Faulty, Verb};
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;
use crate::keep::to_line;
use crate::run::keeper::tests::silent;
use crate::run::run_program;

/// The parts of a run whose store and keeper a test controls. So little of the lease is left that the program would get
/// TERM, and that stays so: the clock stands still, and no watchdog extends the lease.
struct Run {
    args: RunArgs,
    held: Held,
    store: Arc<MemoryStore>,
    faults: Faults,
    keeper: Keeper,
    /// The process that stands in for the keeper.
    process: Child,
    /// The keeper's end of the socket.
    socket: UnixStream,
    signals: Signals,
}

#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    run: RunArgs,
}

impl Run {
    async fn with(options: &[&str]) -> Self {
        let line = [&["run", "job", "--ttl", "10m"], options, &["--", "true"]].concat();
        let args = CommandLine::try_parse_from(line).unwrap().run;
        let (forked, process, mut socket) = silent();
        send(&mut socket, &[News::Ready { namespace: None }]);
        let keeper = Keeper::meet(forked).await.unwrap();
        let faults = Faults::none();
        let store = MemoryStore::new();
        let backend = Faulty::new(store.client(Namespace::default()), faults.clone());
        let client = Client::builder().runtime(Handle::current()).clock(Clock::manual()).build(backend);
        let options = LockOptions::new().ttl(Duration::from_secs(5)).watchdog(false);
        let guard = SimpleLock::new("job", &client).unwrap().lock_with(options).await.unwrap();
        let held = Held::new(vec![guard]);
        Self { args, held, store, faults, keeper, process, socket, signals: Signals::listen().unwrap() }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
    }
}

fn send(socket: &mut UnixStream, news: &[News]) {
    for news in news {
        socket.write_all(to_line(news).as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn end_during_the_last_extension_counts() {
    let Run { args, held, faults, keeper, socket, signals, .. } = &mut Run::with(&[]).await;
    let mut run = Supervision::new(held, args, (keeper, Pid::this()), None, signals);
    let extensions = faults.calls(Verb::Extend);
    faults.freeze();
    raise(Signal::SIGCONT).unwrap();
    let end = async {
        while faults.calls(Verb::Extend) == extensions {
            yield_now().await;
        }
        send(socket, &[News::Ended(7 << 8), News::Gone]);
    };
    timeout(Duration::from_secs(10), join(run.on_time(), end)).await.expect("the lock is extended");
    assert!(run.is_over() && run.end.is_none(), "{:?}", run.end);
}

#[tokio::test]
async fn late_news_after_the_end_does_not_count() {
    let Run { args, held, keeper, socket, signals, .. } = &mut Run::with(&["--wait-for", "program"]).await;
    let mut run = Supervision::new(held, args, (keeper, Pid::this()), None, signals);
    send(socket, &[News::Ended(7 << 8), News::Late]);
    run.on_time().await;
    assert!(run.is_over() && run.end.is_none(), "{:?}", run.end);
}

#[tokio::test]
async fn stopped_program_of_a_lost_lock_is_killed() {
    let Run { args, held, store, faults, keeper, signals, .. } = &mut Run::with(&[]).await;
    let mut run = Supervision::new(held, args, (keeper, Pid::this()), None, signals);
    run.on_stop(Signal::SIGSTOP as i32);
    faults.lose_events(true); // only the extension reports the loss
    let other = Client::builder().build(store.client(Namespace::default()));
    assert_eq!(other.break_leases("job").await.unwrap(), 1);
    assert!(run.held.loss().is_none());
    run.resume().await;
    assert!(run.held.loss().is_some());
    assert!(run.end.is_some_and(|end| end.is_killed), "{:?}", run.end);
}

#[tokio::test]
async fn loss_during_the_start_is_a_loss() {
    let Run { args, held, store, keeper, signals, .. } = &mut Run::with(&[]).await;
    let other = Client::builder().build(store.client(Namespace::default()));
    assert_eq!(other.break_leases("job").await.unwrap(), 1);
    held.lost().await;
    let failure = run_program(args, keeper, signals, held).await.unwrap_err();
    assert!(failure.is_loss(), "{failure}");
}
