//! Events that came while this process was stopped. Timers that are due fire before the runtime has read them.

use futures_util::FutureExt as _;
use tokio::task::yield_now;

/// The output of `future`, if it is ready once the runtime has looked at its sockets.
pub(crate) async fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    yield_now().await;
    future.now_or_never()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix;
    use std::time::Duration;

    use tokio::io::{AsyncBufReadExt as _, BufReader};
    use tokio::net::UnixStream;
    use tokio::time::{Instant, timeout_at};

    use super::*;

    #[tokio::test]
    async fn line_from_before_a_due_timer_is_read() {
        let (stream, mut other) = unix::net::UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut lines = BufReader::new(UnixStream::from_std(stream).unwrap()).lines();
        other.write_all(b"one\ntwo\n").unwrap();
        let due = Instant::now() - Duration::from_secs(1);
        assert!(timeout_at(due, lines.next_line()).await.is_err(), "the runtime has read the line already");
        for expected in [Some("one"), Some("two"), None] {
            let line = ready(lines.next_line()).await.map(|line| line.unwrap().unwrap());
            assert_eq!(line.as_deref(), expected);
        }
    }
}
