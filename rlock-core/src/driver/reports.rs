//! Reports to the user's log and metrics, on a thread where they can block neither the driver nor a lock.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Span, dispatcher};

use super::quietly::quietly;

/// Reports that one thread makes one after the other, for the subscriber or the recorder that was in effect when they
/// were added.
#[derive(Default)]
pub(super) struct Reports(Mutex<Waiting>);

/// The maximum number of reports that wait while one of them blocks. Beyond it new ones are dropped.
const MOST: usize = 4096;

#[derive(Default)]
struct Waiting {
    reports: VecDeque<Report>,
    /// The number of reports that were dropped since the thread last had nothing to do.
    dropped: u64,
    /// A thread makes the reports, or will.
    is_running: bool,
}

/// The subscriber of a thread, if it has one. Without one, the crate `log` may get the reports.
struct Subscriber(Option<Dispatch>);

struct Report {
    subscriber: Subscriber,
    span: Span,
    make: Box<dyn FnOnce() + Send>,
}

impl Reports {
    /// Makes a report on a thread that may block.
    pub(super) fn add(self: &Arc<Self>, runtime: &Handle, make: impl FnOnce() + Send + 'static) {
        self.add_if(Waiting::has_room, runtime, make);
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
        let report = Report { subscriber: Subscriber::current(), span: Span::current(), make: Box::new(make) };
        let mut report = Some(report);
        let is_running = {
            let mut waiting = self.lock();
            if is_wanted(&mut waiting) {
                waiting.reports.extend(report.take());
            }
            std::mem::replace(&mut waiting.is_running, true)
        };
        quietly(|| drop(report));
        if is_running {
            return;
        }
        let runner = Runner(self.clone());
        // After the end of the runtime, the closure is dropped here, and the runner with it.
        let spawned = AssertUnwindSafe(|| drop(runtime.spawn_blocking(move || drop(runner))));
        if catch_unwind(spawned).is_err() {
            self.lock().is_running = false; // the system has no thread left; the next report tries again
        }
    }

    fn make_all(&self) {
        let mut last = Subscriber(None);
        loop {
            let (next, dropped) = {
                let mut waiting = self.lock();
                let next = waiting.reports.pop_front();
                let dropped = if next.is_none() { std::mem::take(&mut waiting.dropped) } else { 0 };
                waiting.is_running = next.is_some() || dropped > 0;
                (next, dropped)
            };
            if let Some(Report { subscriber, span, make }) = next {
                quietly(|| subscriber.get(|| span.in_scope(make)));
                last = subscriber;
            } else if dropped > 0 {
                let say = || tracing::warn!(dropped, "reports were dropped, because the log or the metrics blocked");
                quietly(|| last.get(say));
            } else {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Whether the bound allows another report. If not, counts it as dropped.
    fn has_room(&mut self) -> bool {
        let has_room = self.reports.len() < MOST;
        self.dropped += u64::from(!has_room);
        has_room
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

    use super::*;

    #[tokio::test]
    async fn reports_beyond_the_bound_are_dropped() {
        let reports = Arc::<Reports>::default();
        let (unblock, blocked) = channel::<()>();
        let (sender, made) = channel();
        reports.add(&Handle::current(), move || _ = blocked.recv());
        // The thread may or may not have taken the first report.
        for number in 0..2 * MOST {
            let sender = sender.clone();
            reports.add(&Handle::current(), move || _ = sender.send(number));
        }
        assert!((MOST - 1..=MOST + 1).contains(&(2 * MOST - reports.dropped())));
        drop((unblock, sender));
        let made: Vec<usize> = made.iter().collect();
        assert!((MOST - 1..=MOST).contains(&made.len()) && made.is_sorted(), "{} reports", made.len());
    }

    impl Reports {
        fn dropped(&self) -> usize {
            usize::try_from(self.lock().dropped).expect("it is small")
        }
    }
}
