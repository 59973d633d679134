//! Calls into the user's code, where it can neither block nor break anything.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

type Call = Box<dyn FnOnce() + Send>;

/// Calls in the order in which they were made, one after another, on a thread that may block.
#[derive(Default)]
pub(super) struct Callbacks(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    calls: VecDeque<Call>,
    running: bool,
}

impl Callbacks {
    pub(super) fn call(self: &Arc<Self>, runtime: &Handle, call: impl FnOnce() + Send + 'static) {
        let mut waiting = self.lock();
        waiting.calls.push_back(Box::new(call));
        if !waiting.running {
            waiting.running = true;
            let this = self.clone();
            runtime.spawn_blocking(move || this.run());
        }
    }

    fn run(&self) {
        while let Some(call) = self.next() {
            if catch_unwind(AssertUnwindSafe(call)).is_err() {
                tracing::error!("a watchdog's callback panicked");
            }
        }
    }

    fn next(&self) -> Option<Call> {
        let mut waiting = self.lock();
        let call = waiting.calls.pop_front();
        waiting.running = call.is_some();
        call
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
