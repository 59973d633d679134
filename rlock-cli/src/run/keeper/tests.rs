use std::io::Write as _;
use std::process::{self, Command};

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
    child.kill().unwrap();
}

#[tokio::test]
async fn keeper_that_starts_nothing_is_killed() {
    for remaining in [None, Some(Duration::from_millis(10)), Some(Duration::from_secs(600))] {
        let (forked, mut child, mut other) = silent();
        other.write_all(to_line(&News::Ready { namespace: None }).as_bytes()).unwrap();
        let mut keeper = Keeper::meet(forked).await.unwrap();
        let failure = keeper.start(Vec::new(), false, remaining, Duration::ZERO).await.unwrap_err();
        assert!(matches!(failure, NotStarted::Unanswered { .. }), "{failure:?}");
        assert!(child.try_wait().is_err(), "the keeper was not reaped");
    }
}
