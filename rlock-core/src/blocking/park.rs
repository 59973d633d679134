//! Waiting for a future on the thread itself.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_core::Stream;

/// Blocks this thread until `future` is ready, and returns its output.
///
/// It drives no timers and no I/O: it is for futures of this library, whose client has a thread of its own. It works on
/// any thread, also inside a runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    wait(future, None).expect("without a limit there is an output")
}

/// Like [`block_on`], for `limit` at most; `None` after that.
pub(super) fn block_on_for<F: Future>(future: F, limit: Duration) -> Option<F::Output> {
    wait(future, Some(limit))
}

/// Blocks this thread until `stream` has an item or has ended.
pub(super) fn next_of<T>(stream: &mut Pin<Box<dyn Stream<Item = T> + Send>>) -> Option<T> {
    block_on(poll_fn(|context| stream.as_mut().poll_next(context)))
}

fn wait<F: Future>(future: F, limit: Option<Duration>) -> Option<F::Output> {
    let begun = Instant::now();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    // A task around this has a budget, which nothing refills while its thread is parked.
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match limit {
            None => thread::park(),
            Some(limit) => match limit.checked_sub(begun.elapsed()) {
                Some(left) if !left.is_zero() => thread::park_timeout(left),
                _ => return None,
            },
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}
