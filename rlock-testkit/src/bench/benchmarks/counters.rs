//! The server's counters.

use crate::bench::error::BenchError;
use crate::bench::row::{Row, Unit};
use crate::bench::subject::Subject;

/// The server's counters, or their growth.
pub(super) struct Counters(Vec<(&'static str, u64)>);

impl Counters {
    pub(super) async fn read(subject: &impl Subject) -> Result<Self, BenchError> {
        Ok(Self(subject.baseline().counters().await?))
    }

    /// The growth since `before`.
    pub(super) fn since(mut self, before: &Self) -> Self {
        self.0.iter_mut().zip(&before.0).for_each(|((_, now), (_, then))| *now = now.saturating_sub(*then));
        self
    }

    /// Adds another growth to this one.
    pub(super) fn and_then(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|((_, all), (_, more))| *all += more);
    }

    /// Adds this growth to `row`, divided by the number of operations.
    pub(super) fn add_to(&self, row: &mut Row, count: usize, of: &str) {
        for (counter, growth) in &self.0 {
            let each = *growth as f64 / count.max(1) as f64;
            row.figure(
                format!("{}_per_{of}", counter.replace(' ', "_")),
                format!("{counter} a {of}"),
                each,
                Unit::Count,
            );
        }
    }
}
