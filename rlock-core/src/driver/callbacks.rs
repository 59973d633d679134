//! Calls into the user's code, on threads where it can neither block the driver nor break it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use super::quietly::quietly;
use crate::watchdog::{FailureCallback, SuccessCallback, WatchdogFailure};

/// Runs the callbacks of a client's watchdogs on up to [`MOST`] threads. The callbacks of one watchdog run one after
/// the other, those of several watchdogs at the same time.
#[derive(Default)]
pub(super) struct Callbacks(Mutex<Waiting>);

/// The maximum number of threads that run callbacks.
const MOST: usize = 32;

/// The maximum number of failures of one watchdog that wait for their callback. Beyond it the oldest is dropped.
const MOST_FAILURES: usize = 64;

#[derive(Default)]
struct Waiting {
    /// Watchdogs with calls to make.
    queues: VecDeque<Arc<Queue>>,
    runners: usize,
}

/// The callbacks of one watchdog, and its pending calls.
pub(super) struct Queue {
    on_failure: Option<FailureCallback>,
    on_success: Option<SuccessCallback>,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    waiting: VecDeque<CallBack>,
    /// A thread makes the calls, or will.
    is_scheduled: bool,
}

enum CallBack {
    Failure(WatchdogFailure),
    /// The number of successes in a row.
    Successes(u64),
}

impl Queue {
    pub(super) fn new(on_failure: Option<FailureCallback>, on_success: Option<SuccessCallback>) -> Arc<Self> {
        Arc::new(Self { on_failure, on_success, calls: Mutex::default() })
    }

    /// Records a success. Call [`Callbacks::run`] afterwards.
    pub(super) fn success(&self) {
        if self.on_success.is_none() {
            return;
        }
        let mut calls = self.lock();
        match calls.waiting.back_mut() {
            Some(CallBack::Successes(count)) => *count += 1,
            _ => calls.waiting.push_back(CallBack::Successes(1)),
        }
    }

    /// Records a failure, and returns the oldest if there are too many. Call [`Callbacks::run`] afterwards.
    pub(super) fn failure(&self, failure: WatchdogFailure) -> Option<WatchdogFailure> {
        self.on_failure.as_ref()?;
        let mut calls = self.lock();
        let oldest = if calls.waiting.len() < MOST_FAILURES { None } else { calls.waiting.pop_front() };
        calls.waiting.push_back(CallBack::Failure(failure));
        match oldest? {
            CallBack::Failure(oldest) => Some(oldest),
            CallBack::Successes(_) => None,
        }
    }

    /// Makes one call, and returns whether there was one.
    fn call(&self) -> bool {
        let Some(call) = self.next() else { return false };
        let made = quietly(|| match &call {
            CallBack::Failure(failure) => self.on_failure.iter().for_each(|call| call(failure)),
            CallBack::Successes(_) => self.on_success.iter().for_each(|call| call()),
        });
        quietly(|| drop(call)); // it may have an error of the backend's author
        if made.is_none() {
            quietly(|| tracing::error!("a callback of a watchdog panicked"));
        }
        true
    }

    fn next(&self) -> Option<CallBack> {
        let mut calls = self.lock();
        match calls.waiting.front_mut() {
            Some(CallBack::Successes(count)) if *count > 1 => {
                *count -= 1;
                Some(CallBack::Successes(1))
            }
            _ => calls.waiting.pop_front(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Callbacks {
    /// Makes the calls of `queue` on a thread that may block.
    pub(super) fn run(self: &Arc<Self>, runtime: &Handle, queue: &Arc<Queue>) {
        {
            let mut calls = queue.lock();
            if calls.waiting.is_empty() || std::mem::replace(&mut calls.is_scheduled, true) {
                return;
            }
        }
        let mut waiting = self.lock();
        waiting.queues.push_back(queue.clone());
        if waiting.runners == MOST {
            return;
        }
        waiting.runners += 1;
        drop(waiting);
        let is_counted = Arc::new(AtomicBool::new(true));
        let runner = Runner { callbacks: Some(self.clone()), is_counted: is_counted.clone() };
        let spawned = quietly(|| drop(runtime.spawn_blocking(move || runner.work())));
        if spawned.is_none() {
            // The system has no thread left. The next call tries again. tokio keeps the runner until there is a thread.
            let mut waiting = self.lock();
            waiting.uncount(&is_counted);
            let before = waiting.queues.len();
            waiting.queues.retain(|waiting| !Arc::ptr_eq(waiting, queue));
            if waiting.queues.len() < before {
                queue.lock().is_scheduled = false; // no other thread has taken the queue meanwhile
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Stops counting a runner, unless that is done.
    fn uncount(&mut self, is_counted: &AtomicBool) {
        self.runners -= usize::from(is_counted.swap(false, Ordering::AcqRel));
    }
}

/// A thread that makes calls, or will make them. It counts as one until it finds no more calls, or is dropped.
struct Runner {
    callbacks: Option<Arc<Callbacks>>,
    is_counted: Arc<AtomicBool>,
}

impl Runner {
    fn work(mut self) {
        while let Some(queue) = self.next() {
            while queue.call() || !queue.try_end() {}
            quietly(|| drop(queue)); // the user's closures, perhaps
        }
    }

    fn next(&mut self) -> Option<Arc<Queue>> {
        let callbacks = self.callbacks.clone()?;
        let mut waiting = callbacks.lock();
        let queue = waiting.queues.pop_front();
        if queue.is_none() {
            waiting.uncount(&self.is_counted);
            self.callbacks = None;
        }
        queue
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Some(callbacks) = self.callbacks.take() {
            callbacks.lock().uncount(&self.is_counted);
        }
    }
}

impl Queue {
    /// Ends the work on this queue, unless calls have been added.
    fn try_end(&self) -> bool {
        let mut calls = self.lock();
        calls.is_scheduled = !calls.waiting.is_empty();
        !calls.is_scheduled
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::contract::{BackendError, Failure, ResourceName};
    use crate::lease::LossReason;
    use crate::watchdog::ExtensionFailure;

    /// Users count successes by this callback.
    #[test]
    fn each_success_is_one_call_and_no_memory() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let on_success: SuccessCallback = Arc::new(move || _ = counted.fetch_add(1, Ordering::Relaxed));
        let queue = Queue::new(None, Some(on_success));
        (0..1000).for_each(|_| queue.success());
        assert_eq!(queue.lock().waiting.len(), 1);
        while queue.call() {}
        assert_eq!(calls.load(Ordering::Relaxed), 1000);
    }

    #[test]
    fn oldest_failures_are_dropped() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        let on_failure: FailureCallback = Arc::new(move |failure| noted.lock().unwrap().push(failure.failures));
        let queue = Queue::new(Some(on_failure), None);
        for failures in 0..100 {
            let resource = ResourceName::new("job").unwrap();
            let cause = ExtensionFailure::Lost(LossReason::Expired);
            let oldest = queue.failure(WatchdogFailure { resource, failures, max_failures: 3, cause });
            assert_eq!(oldest.map(|oldest| oldest.failures), failures.checked_sub(64));
        }
        while queue.call() {}
        assert_eq!(*seen.lock().unwrap(), (36..100).collect::<Vec<u32>>());
    }

    #[test]
    fn payload_that_panics_ends_no_queue() {
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                panic!("the payload panics");
            }
        }
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let on_success: SuccessCallback = Arc::new(move || {
            if counted.fetch_add(1, Ordering::Relaxed) < 2 {
                panic_any(Payload);
            }
        });
        let queue = Queue::new(None, Some(on_success));
        (0..3).for_each(|_| queue.success());
        while queue.call() {}
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn closure_that_panics_ends_no_thread() {
        struct Captured;
        impl Drop for Captured {
            fn drop(&mut self) {
                panic!("the closure panics");
            }
        }
        let callbacks = Arc::<Callbacks>::default();
        let calls = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let (counted, captured) = (calls.clone(), Captured);
            let on_success: SuccessCallback = Arc::new(move || {
                let _kept = &captured;
                counted.fetch_add(1, Ordering::Relaxed);
            });
            let queue = Queue::new(None, Some(on_success));
            queue.success();
            callbacks.lock().queues.push_back(queue);
        }
        callbacks.lock().runners = 1;
        Runner { callbacks: Some(callbacks), is_counted: Arc::new(AtomicBool::new(true)) }.work();
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn error_that_panics_ends_no_queue() {
        #[derive(Debug, thiserror::Error)]
        #[error("the store failed")]
        struct Source;
        impl Drop for Source {
            fn drop(&mut self) {
                panic!("the error panics");
            }
        }
        let queue = Queue::new(Some(Arc::new(|_: &WatchdogFailure| {})), None);
        for failures in 1..3 {
            let resource = ResourceName::new("job").unwrap();
            let error = BackendError::Unknown(Failure::new("extend", "memory", "no answer").caused_by(Source));
            queue.failure(WatchdogFailure { resource, failures, max_failures: 3, cause: error.into() });
        }
        assert!(queue.call() && queue.call() && !queue.call());
    }
}
