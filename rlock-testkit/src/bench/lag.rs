//! The worst lag of renewals, from the metrics of the client.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder,
};

const LAG: &str = "rlock_extend_lag_seconds";

/// The worst lag of the clients that connected in [`while_connecting`](Self::while_connecting).
#[derive(Debug, Clone, Default)]
pub(crate) struct WorstLag(Arc<Worst>);

#[derive(Debug, Default)]
struct Worst {
    nanos: AtomicU64,
    count: AtomicU64,
}

impl WorstLag {
    /// Receives the metrics of the client that `connecting` makes. A client gets its metrics recorder while it
    /// connects.
    pub(crate) async fn while_connecting<T>(&self, connecting: impl Future<Output = T>) -> T {
        let mut connecting = pin!(connecting);
        std::future::poll_fn(|context| -> Poll<T> { with_local_recorder(self, || connecting.as_mut().poll(context)) })
            .await
    }

    /// The worst lag since the last call; `None` if no lease was renewed.
    pub(crate) fn take(&self) -> Option<Duration> {
        let count = self.0.count.swap(0, Ordering::Relaxed);
        let nanos = self.0.nanos.swap(0, Ordering::Relaxed);
        (count > 0).then_some(Duration::from_nanos(nanos))
    }
}

impl HistogramFn for Worst {
    fn record(&self, seconds: f64) {
        let lag = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.nanos.fetch_max(u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Recorder for WorstLag {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name() == LAG { Histogram::from_arc(self.0.clone()) } else { Histogram::noop() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn worst_lag_is_the_highest_that_was_recorded() {
        let lag = WorstLag::default();
        assert_eq!(lag.take(), None);
        let (late, other) = lag
            .while_connecting(async { (metrics::histogram!(LAG), metrics::histogram!("rlock_hold_duration_seconds")) })
            .await;
        [0.25, 0.5, 0.125].into_iter().for_each(|seconds| late.record(seconds));
        other.record(2.0);
        assert_eq!(lag.take(), Some(Duration::from_millis(500)));
        assert_eq!(lag.take(), None);
    }
}
