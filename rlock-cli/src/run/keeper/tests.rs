use std::future::{pending, ready};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::{self, Command};

use tokio::time::{sleep, timeout};

use super::*;

/// A process that stands in for a keeper and never answers, and the other end of its socket.
pub(in crate::run) fn silent() -> (Forked, process::Child, UnixStream) {
    let (epoch, tree) = (Clock::boot().now(), Tree::of_this_process());
    let (stream, other) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    let child = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    (Forked { pid, epoch, tree, stream, patience: Duration::from_millis(50) }, child, other)
}

fn later(time: Duration) -> Moment {
    Clock::boot().now().after(time)
}

#[tokio::test]
async fn keeper_that_never_gets_ready_is_killed() {
    let (forked, mut child, _other) = silent();
    let error = Keeper::meet(forked).await.unwrap_err();
    assert!(error.to_string().contains("not ready within 50ms and was killed"), "{error}");
    assert!(child.try_wait().is_err(), "the keeper was not reaped");
}

#[tokio::test]
async fn refused_namespace_has_its_remedy() {
    for (errno, remedy) in [(libc::EAGAIN, "too many processes"), (libc::EPERM, "leave out --pid-namespace")] {
        let (forked, mut child, mut other) = silent();
        other.write_all(to_line(&News::NoNamespace(errno)).as_bytes()).unwrap();
        let error = Keeper::meet(forked).await.unwrap_err();
        assert!(error.to_string().contains(remedy), "{error}");
        let _ended_already = child.kill();
    }
}

#[tokio::test]
async fn answer_that_came_in_time_counts() {
    let (forked, mut child, mut other) = silent();
    other.write_all(to_line(&News::Ready { namespace: None }).as_bytes()).unwrap();
    let mut keeper = Keeper::meet(forked).await.unwrap();
    other.write_all(to_line(&News::Late).as_bytes()).unwrap();
    keeper.mode = Mode::Kept { answers_by: Some(Instant::now() - Duration::from_secs(1)) };
    assert_eq!(keeper.news().await, News::Late);
    keeper.pid = None;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn keeper_that_starts_nothing_is_killed() {
    for remaining in [None, Some(Duration::from_millis(10)), Some(Duration::from_secs(600))] {
        let (forked, mut child, mut other) = silent();
        other.write_all(to_line(&News::Ready { namespace: None }).as_bytes()).unwrap();
        let mut keeper = Keeper::meet(forked).await.unwrap();
        let failure =
            keeper.start(Vec::new(), false, remaining.map(later), Duration::ZERO, pending()).await.unwrap_err();
        assert!(matches!(failure, NotStarted::Unanswered { .. }), "{failure:?}");
        assert!(child.try_wait().is_err(), "the keeper was not reaped");
    }
}

const LONG: Duration = Duration::from_secs(600);
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn loss_limits_the_wait_for_the_start() {
    let (mut forked, mut child, mut other) = silent();
    forked.patience = LONG;
    other.write_all(to_line(&News::Ready { namespace: None }).as_bytes()).unwrap();
    let mut keeper = Keeper::meet(forked).await.unwrap();
    let starting = keeper.start(Vec::new(), false, Some(later(LONG)), Duration::from_millis(10), ready(()));
    let failure = timeout(LIMIT, starting).await.expect("the loss is noticed").unwrap_err();
    assert!(matches!(failure, NotStarted::Unanswered { .. }), "{failure:?}");
    assert!(child.try_wait().is_err(), "the keeper was not reaped");
}

#[tokio::test]
async fn keeper_that_was_stopped_at_the_start_answers_after_a_loss() {
    let (mut forked, mut silent_child, other) = silent();
    let (ready, started) = (to_line(&News::Ready { namespace: None }), to_line(&News::Started(i32::MAX)));
    let script =
        format!("echo '{}'; read order; kill -STOP $$; echo '{}'; exec sleep 600", ready.trim(), started.trim());
    let (input, output) = (OwnedFd::from(other.try_clone().unwrap()), OwnedFd::from(other));
    let mut child = Command::new("sh").args(["-c", &script]).stdin(input).stdout(output).spawn().unwrap();
    silent_child.kill().unwrap();
    silent_child.wait().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    (forked.pid, forked.patience) = (pid, LONG);
    let mut keeper = Keeper::meet(forked).await.unwrap();
    let is_stopped = async {
        while waitpid(pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) == Ok(WaitStatus::StillAlive) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let starting = keeper.start(Vec::new(), false, Some(later(LONG)), LONG, is_stopped);
    let program = timeout(LIMIT, starting).await.expect("the keeper was continued").unwrap();
    assert_eq!(program, Pid::from_raw(i32::MAX));
    keeper.pid = None;
    child.kill().unwrap();
    child.wait().unwrap();
}
