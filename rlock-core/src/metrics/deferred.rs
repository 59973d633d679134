//! Metrics that the recorder gets later, on a thread that may block.

use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn};

use super::ClientMetrics;

/// The maximum number of samples of one histogram that wait. Beyond it new ones are dropped. Counters and gauges need
/// no bound, because their changes add up.
const MOST_SAMPLES: usize = 4096;

/// The metrics of one client, by handles whose changes wait until they are [published](Self::publish).
pub(crate) struct DeferredMetrics {
    metrics: ClientMetrics,
    handles: Handles,
}

/// The handles of one client.
#[derive(Default)]
pub(super) struct Handles(Vec<Arc<dyn Publish>>);

trait Publish: Send + Sync {
    /// Passes the changes since the last call to the recorder.
    fn publish(&self);
}

/// A handle of the recorder, and the changes that it has not got yet.
struct Deferred<H, W> {
    recorder: H,
    waiting: W,
}

impl DeferredMetrics {
    pub(crate) fn of(metrics: &ClientMetrics) -> Self {
        let mut handles = Handles::default();
        Self { metrics: metrics.deferred(&mut handles), handles }
    }

    pub(crate) fn metrics(&self) -> &ClientMetrics {
        &self.metrics
    }

    /// Passes all changes to the recorder, which may block or panic.
    pub(crate) fn publish(&self) {
        let Handles(handles) = &self.handles;
        for handle in handles {
            let _recorder_panicked = catch_unwind(AssertUnwindSafe(|| handle.publish()));
        }
    }
}

impl Handles {
    pub(super) fn counter(&mut self, recorder: &Counter) -> Counter {
        Counter::from_arc(self.add(Deferred { recorder: recorder.clone(), waiting: AtomicU64::new(0) }))
    }

    pub(super) fn gauge(&mut self, recorder: &Gauge) -> Gauge {
        Gauge::from_arc(self.add(Deferred { recorder: recorder.clone(), waiting: Mutex::new(0.0_f64) }))
    }

    pub(super) fn histogram(&mut self, recorder: &Histogram) -> Histogram {
        Histogram::from_arc(self.add(Deferred { recorder: recorder.clone(), waiting: Mutex::new(Vec::<f64>::new()) }))
    }

    fn add<D: Publish + 'static>(&mut self, handle: D) -> Arc<D> {
        let handle = Arc::new(handle);
        self.0.push(handle.clone());
        handle
    }
}

impl Publish for Deferred<Counter, AtomicU64> {
    fn publish(&self) {
        match self.waiting.swap(0, Ordering::Relaxed) {
            0 => {}
            count => self.recorder.increment(count),
        }
    }
}

impl CounterFn for Deferred<Counter, AtomicU64> {
    fn increment(&self, value: u64) {
        self.waiting.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.recorder.absolute(value); // core makes no such change
    }
}

impl Publish for Deferred<Gauge, Mutex<f64>> {
    fn publish(&self) {
        let change = take(&mut *lock(&self.waiting));
        if change > 0.0 {
            self.recorder.increment(change);
        } else if change < 0.0 {
            self.recorder.decrement(-change);
        }
    }
}

impl GaugeFn for Deferred<Gauge, Mutex<f64>> {
    fn increment(&self, value: f64) {
        *lock(&self.waiting) += value;
    }

    fn decrement(&self, value: f64) {
        *lock(&self.waiting) -= value;
    }

    fn set(&self, value: f64) {
        self.recorder.set(value); // core makes no such change
    }
}

impl Publish for Deferred<Histogram, Mutex<Vec<f64>>> {
    fn publish(&self) {
        let samples = take(&mut *lock(&self.waiting));
        samples.into_iter().for_each(|sample| self.recorder.record(sample));
    }
}

impl HistogramFn for Deferred<Histogram, Mutex<Vec<f64>>> {
    fn record(&self, value: f64) {
        let mut samples = lock(&self.waiting);
        if samples.len() < MOST_SAMPLES {
            samples.push(value);
        }
    }
}

fn lock<T>(waiting: &Mutex<T>) -> MutexGuard<'_, T> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
