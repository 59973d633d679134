//! Waiting for an event, for as long as a busy machine may take.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until there is a result.
pub(crate) fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, ask)
}

pub(crate) fn until_within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Blocks until an action on a server has completed.
pub(crate) fn wait_for(done: impl Future<Output = ()>) {
    Runtime::new().expect("the system has threads left").block_on(done);
}
