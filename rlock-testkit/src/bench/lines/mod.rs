//! The measurements, one file each.

mod contention;
mod cpu;
mod cycle;
mod drift;
mod hand_over;
mod renewal;
mod round_trip;

pub(super) use contention::contention;
pub(super) use cpu::cpu;
pub(super) use cycle::{cycle, pair};
pub(super) use drift::drift;
pub(super) use hand_over::hand_over;
pub(super) use renewal::renewal;
pub(super) use round_trip::round_trip;

use super::{BenchError, Home, Row, Subject, Unit};

/// The home of the client in measurements that need only one: the last that the subject names.
fn usual_home(subject: &impl Subject) -> Home {
    *subject.homes().last().expect("a client has a home")
}

/// The server's counters, or their growth.
struct Counters(Vec<(&'static str, u64)>);

impl Counters {
    async fn read(subject: &impl Subject) -> Result<Self, BenchError> {
        Ok(Self(subject.baseline().counters().await?))
    }

    /// The growth since `before`.
    fn since(mut self, before: &Self) -> Self {
        self.0.iter_mut().zip(&before.0).for_each(|((_, now), (_, then))| *now = now.saturating_sub(*then));
        self
    }

    /// Adds another growth to this one.
    fn and_then(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|((_, all), (_, more))| *all += more);
    }

    /// Adds this growth to `row`, divided by the number of operations.
    fn add_to(&self, row: &mut Row, count: usize, of: &str) {
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
