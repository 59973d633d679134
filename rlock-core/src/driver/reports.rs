//! Reports to the user's log and metrics, on a thread where they can block neither the driver nor a lock.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Span, dispatcher};

use super::quietly::quietly;

/// Reports that one thread makes one after the other, for the subscriber or the recorder that was in effect when they
/// were added.
#[derive(Default)]
pub(super) struct Reports {
    waiting: Mutex<Waiting>,
    made: Notify,
    /// Wakes threads that wait until all reports are made.
    made_for_threads: Condvar,
}

/// The maximum number of details that wait while a report blocks. As many failures may wait beside them. Beyond these
/// numbers new reports are dropped.
const MOST: usize = 4096;

#[derive(Default)]
struct Waiting {
    reports: VecDeque<Report>,
    /// The number of reports that were dropped since the thread last took one.
    dropped: u64,
    work: Work,
}

#[derive(Default, PartialEq, Eq)]
enum Work {
    #[default]
    Idle,
    /// A thread will make the reports.
    Scheduled,
    /// A thread makes them.
    Running,
}

/// The subscriber of a thread, if it has one. Without one, the crate `log` may get the reports.
#[derive(Default)]
struct Subscriber(Option<Dispatch>);

struct Report {
    subscriber: Subscriber,
    span: Span,
    make: Box<dyn FnOnce() + Send>,
}

impl Reports {
    /// Reports a failure on a thread that may block.
    pub(super) fn add(self: &Arc<Self>, runtime: &Handle, make: impl FnOnce() + Send + 'static) {
        self.add_if(|waiting| waiting.has_room(2 * MOST), runtime, make);
    }

    /// Reports a step without a failure on a thread that may block.
    pub(super) fn add_detail(self: &Arc<Self>, runtime: &Handle, make: impl FnOnce() + Send + 'static) {
        self.add_if(|waiting| waiting.has_room(MOST), runtime, make);
    }

    /// Makes a report on a thread that may block, unless one waits: for reports that all do the same.
    pub(super) fn add_once(self: &Arc<Self>, runtime: &Handle, make: impl FnOnce() + Send + 'static) {
        self.add_if(|waiting| waiting.reports.is_empty(), runtime, make);
    }

    fn add_if(
        self: &Arc<Self>,
        is_wanted: impl FnOnce(&mut Waiting) -> bool,
        runtime: &Handle,
        make: impl FnOnce() + Send + 'static,
    ) {
        let mut report = Some(Report {
            subscriber: quietly(Subscriber::current).unwrap_or_default(),
            span: quietly(Span::current).unwrap_or_else(Span::none),
            make: Box::new(make),
        });
        let was_idle = {
            let mut waiting = self.lock();
            if is_wanted(&mut waiting) {
                waiting.reports.extend(report.take());
            }
            waiting.replace(Work::Idle, Work::Scheduled)
        };
        quietly(|| drop(report));
        if !was_idle {
            return;
        }
        let runner = Runner(self.clone());
        // After the end of the runtime, the closure is dropped here, and the runner with it.
        let spawned = AssertUnwindSafe(|| drop(runtime.spawn_blocking(move || drop(runner))));
        if catch_unwind(spawned).is_err() {
            // The system has no thread left. The next report tries again. tokio keeps the runner until there is a thread.
            self.lock().replace(Work::Scheduled, Work::Idle);
        }
    }

    /// Resolves when all reports are made, or when no thread is about to make them.
    pub(super) async fn made(&self) {
        loop {
            let made = self.made.notified();
            if self.lock().work == Work::Idle {
                return;
            }
            made.await;
        }
    }

    /// Blocks this thread until all reports are made or no thread is about to make them, for `limit` at most.
    pub(super) fn wait_until_made(&self, limit: Duration) {
        let is_busy = |waiting: &mut Waiting| waiting.work != Work::Idle;
        drop(self.made_for_threads.wait_timeout_while(self.lock(), limit, is_busy));
    }

    fn make_all(&self) {
        if std::mem::replace(&mut self.lock().work, Work::Running) == Work::Running {
            return; // two threads would make reports out of order
        }
        while let Some((report, dropped)) = self.next() {
            report.make(dropped);
        }
        self.made.notify_waiters();
        self.made_for_threads.notify_all();
    }

    /// The next report, and the number of reports that were dropped since the one before was taken.
    fn next(&self) -> Option<(Report, u64)> {
        let mut waiting = self.lock();
        let next = waiting.reports.pop_front();
        if next.is_none() {
            waiting.work = Work::Idle;
        }
        Some((next?, std::mem::take(&mut waiting.dropped)))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Replaces the state `from` by `to`, and returns whether it was `from`.
    fn replace(&mut self, from: Work, to: Work) -> bool {
        let is_replaced = self.work == from;
        if is_replaced {
            self.work = to;
        }
        is_replaced
    }

    /// Whether fewer than `most` reports wait. If not, counts the new one as dropped.
    fn has_room(&mut self, most: usize) -> bool {
        let has_room = self.reports.len() < most;
        self.dropped += u64::from(!has_room);
        has_room
    }
}

impl Report {
    /// Makes the report, after one about `dropped` others. The user's code can panic in each line of this.
    fn make(self, dropped: u64) {
        let Self { subscriber, span, make } = self;
        if dropped > 0 {
            quietly(|| subscriber.get(|| tracing::warn!(dropped, "reports were dropped, because the log blocked")));
        }
        quietly(|| subscriber.get(|| span.in_scope(make)));
        quietly(|| drop(span));
        quietly(|| drop(subscriber));
    }
}

impl Subscriber {
    fn current() -> Self {
        Self(dispatcher::get_default(|current| (!current.is::<NoSubscriber>()).then(|| current.clone())))
    }

    /// Lets the subscriber get the events of `log`.
    fn get(&self, log: impl FnOnce()) {
        match &self.0 {
            Some(subscriber) => dispatcher::with_default(subscriber, log),
            None => log(),
        }
    }
}

/// Makes the reports where it is dropped.
struct Runner(Arc<Reports>);

impl Drop for Runner {
    fn drop(&mut self) {
        self.0.make_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata};

    use super::*;

    /// A subscriber that panics when a span closes.
    struct Closing;

    impl tracing::Subscriber for Closing {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {}

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}

        fn try_close(&self, _: Id) -> bool {
            panic!("the subscriber panics")
        }
    }

    #[tokio::test]
    async fn panicking_span_ends_no_report() {
        let reports = Arc::<Reports>::default();
        let span = tracing::subscriber::with_default(Closing, || tracing::info_span!("work"));
        reports.lock().reports.push_back(Report { subscriber: Subscriber(None), span, make: Box::new(|| {}) });
        let (sender, made) = channel();
        for number in 0..2 {
            let sender = sender.clone();
            reports.add(&Handle::current(), move || _ = sender.send(number));
            assert_eq!(made.recv_timeout(Duration::from_secs(10)), Ok(number));
        }
    }

    /// tokio keeps a runner for which the system had no thread.
    #[tokio::test]
    async fn late_runner_keeps_the_order() {
        let reports = Arc::<Reports>::default();
        let (unblock, blocked) = channel::<()>();
        let (started, has_started) = channel();
        let (sender, made) = channel();
        let first = sender.clone();
        reports.add(&Handle::current(), move || {
            _ = started.send(());
            _ = blocked.recv();
            _ = first.send(1);
        });
        has_started.recv().unwrap();
        reports.add(&Handle::current(), move || _ = sender.send(2));
        drop(Runner(reports));
        drop(unblock);
        assert_eq!(made.iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[tokio::test]
    async fn reports_beyond_the_bound_are_dropped() {
        let reports = Arc::<Reports>::default();
        let (unblock, blocked) = channel::<()>();
        let (sender, made) = channel();
        reports.add(&Handle::current(), move || _ = blocked.recv());
        // The thread may or may not have taken the first report.
        for number in 0..2 * MOST {
            let sender = sender.clone();
            reports.add_detail(&Handle::current(), move || _ = sender.send(number));
        }
        for number in 2 * MOST..4 * MOST {
            let sender = sender.clone();
            reports.add(&Handle::current(), move || _ = sender.send(number));
        }
        drop((unblock, sender));
        let made: Vec<usize> = made.iter().collect();
        assert!(made.is_sorted());
        let failures = made.iter().filter(|number| **number >= 2 * MOST).count();
        let details = made.len() - failures;
        assert!((MOST - 1..=MOST).contains(&details), "{details} details");
        assert!((MOST..=MOST + 1).contains(&failures), "{failures} failures");
    }
}
