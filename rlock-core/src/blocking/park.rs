//! Waiting for a future on the thread itself.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_core::Stream;

use crate::driver::send_collected;

/// Blocks this thread until `future` is ready, and returns its output.
///
/// It drives no timers and no I/O: it is for futures of this library, whose client has a thread of its own. It works on
/// any thread, also inside a runtime, and inside another call of this function.
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
    let until = limit.and_then(|limit| Instant::now().checked_add(limit));
    let parked = Arc::new(Parked { thread: thread::current(), is_woken: AtomicBool::new(false) });
    let waker = Waker::from(parked.clone());
    let mut context = Context::from_waker(&waker);
    // A task around this has a budget, which nothing refills while its thread is parked.
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        let is_over = until.is_some_and(|until| Instant::now() >= until);
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        if is_over {
            return None;
        }
        send_collected();
        parked.wait(until);
    }
}

/// A thread that waits for its future.
struct Parked {
    thread: Thread,
    /// Other code on the thread may take the `unpark`: a call in the poll of the future, or a channel of `std`.
    is_woken: AtomicBool,
}

impl Parked {
    /// Parks this thread until its future is woken, or until the end of the wait.
    fn wait(&self, until: Option<Instant>) {
        while !self.is_woken.swap(false, Ordering::Acquire) {
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
