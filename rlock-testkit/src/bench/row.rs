//! A result of a benchmark.

use std::time::Duration;

use super::benchmark::Benchmark;
use super::samples::Samples;

/// A result of a benchmark: figures that were measured together.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The benchmark.
    pub benchmark: Benchmark,
    /// Whether the row measures the operation without locks.
    pub is_bare: bool,
    /// The subject of the row, for people: `lock + unlock, own thread`.
    pub what: String,
    /// The number of tasks, waiters or leases.
    pub tasks: usize,
    /// The number of operations behind the percentiles.
    pub samples: usize,
    /// The median time of an operation.
    pub p50: Option<Duration>,
    /// The 99th percentile of the time of an operation.
    pub p99: Option<Duration>,
    /// Operations per second of wall time.
    pub per_second: Option<f64>,
    /// The cost relative to the operation without locks; 1 means the same. With one task, the ratio of the medians;
    /// otherwise, the ratio of the wall times of an operation.
    pub ratio: Option<f64>,
    /// Figures that only this benchmark has.
    pub figures: Vec<Figure>,
}

/// A figure with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The name in JSON, with its unit: `client_cpu_us`.
    pub name: String,
    /// The text after the value, for people: `of client CPU a cycle`.
    pub label: String,
    /// The value, in [`unit`](Self::unit)s.
    pub value: f64,
    /// The unit.
    pub unit: Unit,
}

/// The unit of a [`Figure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Microseconds.
    Micros,
    /// Hundredths.
    Percent,
    /// Bytes.
    Bytes,
    /// A multiple of another figure.
    Times,
}

impl Row {
    pub(crate) fn new(benchmark: Benchmark, what: impl Into<String>, tasks: usize) -> Self {
        Self {
            benchmark,
            is_bare: false,
            what: what.into(),
            tasks,
            samples: 0,
            p50: None,
            p99: None,
            per_second: None,
            ratio: None,
            figures: Vec::new(),
        }
    }

    /// Marks the row as without locks.
    pub(crate) fn bare(mut self) -> Self {
        self.is_bare = true;
        self
    }

    /// Adds the times of operations.
    pub(crate) fn of(mut self, samples: &Samples) -> Self {
        self.samples = samples.count();
        self.p50 = samples.percentile(50.0);
        self.p99 = samples.percentile(99.0);
        self.per_second = samples.per_second();
        self
    }

    /// Adds the ratio of the medians, for operations one at a time.
    pub(crate) fn median_beside(mut self, own: &Samples, bare: &Samples) -> Self {
        let median = |samples: &Samples| samples.percentile(50.0).map(|time| time.as_nanos() as f64);
        self.ratio = quotient(median(own), median(bare));
        self
    }

    /// Adds the ratio of the wall times of an operation.
    pub(crate) fn wall_beside(mut self, own: &Samples, bare: &Samples) -> Self {
        self.ratio = quotient(bare.per_second(), own.per_second());
        self
    }

    pub(crate) fn figure(&mut self, name: impl Into<String>, label: impl Into<String>, value: f64, unit: Unit) {
        self.figures.push(Figure { name: name.into(), label: label.into(), value, unit });
    }
}

/// The quotient; `None` if a value is missing or the result is not finite.
pub(crate) fn quotient(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? / other?).filter(|quotient| quotient.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(micros: &[u64], wall: u64) -> Samples {
        let mut samples = Samples::default();
        micros.iter().for_each(|&time| samples.add(Duration::from_micros(time)));
        samples.lasted(Duration::from_micros(wall));
        samples
    }

    #[test]
    fn operations_one_at_a_time_compare_by_medians() {
        let (bare, own) = (samples(&[100, 100, 900], 10), samples(&[150, 150, 151], 10));
        assert_eq!(Row::new(Benchmark::Cycle, "", 1).median_beside(&own, &bare).ratio, Some(1.5));
    }

    #[test]
    fn concurrent_operations_compare_by_wall_time() {
        let (bare, own) = (samples(&[100; 4], 1_000), samples(&[100; 2], 1_000));
        assert_eq!(Row::new(Benchmark::Cycle, "", 8).wall_beside(&own, &bare).ratio, Some(2.0));
    }

    #[test]
    fn no_ratio_without_samples() {
        let (none, own) = (Samples::default(), samples(&[1], 1));
        assert_eq!(Row::new(Benchmark::Cycle, "", 1).median_beside(&own, &none).ratio, None);
        assert_eq!(Row::new(Benchmark::Cycle, "", 8).wall_beside(&none, &own).ratio, None);
        assert_eq!(quotient(Some(1.0), Some(0.0)), None);
    }
}
