//! The times of operations.

use std::time::Duration;

/// The times of all operations, and their total wall time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    times: Vec<Duration>,
    wall: Duration,
}

impl Samples {
    /// Adds the time of an operation.
    pub fn add(&mut self, took: Duration) {
        self.times.push(took);
    }

    /// Adds wall time.
    pub fn lasted(&mut self, wall: Duration) {
        self.wall += wall;
    }

    /// Adds operations without their wall time, because they ran at the same time as these.
    pub fn beside(&mut self, others: Self) {
        self.times.extend(others.times);
    }

    /// Adds operations that ran before or after these.
    pub fn and_then(&mut self, others: Self) {
        self.wall += others.wall;
        self.times.extend(others.times);
    }

    /// The number of operations.
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// The least time that `percent` of 100 operations did not exceed; `None` without operations.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let mut times = self.times.clone();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to the length")]
        let rank = (percent.clamp(0.0, 100.0) / 100.0 * times.len() as f64).ceil() as usize;
        let at = rank.max(1) - 1;
        (at < times.len()).then(|| *times.select_nth_unstable(at).1)
    }

    /// Operations per second of wall time; `None` without wall time.
    pub fn per_second(&self) -> Option<f64> {
        (!self.wall.is_zero()).then(|| self.count() as f64 / self.wall.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Samples {
        let mut samples = Samples::default();
        micros.into_iter().for_each(|time| samples.add(Duration::from_micros(time)));
        samples
    }

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let samples = of((1..=200).rev());
        assert_eq!(samples.percentile(50.0), Some(Duration::from_micros(100)));
        assert_eq!(samples.percentile(99.0), Some(Duration::from_micros(198)));
        assert_eq!(samples.percentile(100.0), Some(Duration::from_micros(200)));
        assert_eq!(of([7]).percentile(99.0), Some(Duration::from_micros(7)));
        assert_eq!(of([]).percentile(50.0), None);
    }

    #[test]
    fn operations_beside_each_other_share_wall_time() {
        let mut samples = of([10, 10]);
        samples.beside(of([10, 10]));
        samples.lasted(Duration::from_millis(4));
        assert_eq!(samples.per_second(), Some(1_000.0));
        let mut later = of([10; 4]);
        later.lasted(Duration::from_millis(4));
        samples.and_then(later);
        assert_eq!((samples.count(), samples.per_second()), (8, Some(1_000.0)));
        assert_eq!(of([1]).per_second(), None);
    }
}
