//! The measurements, a file for each.

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

/// The home of the clients in lines that need only one: the last that the subject names.
fn usual_home(subject: &impl Subject) -> Home {
    *subject.homes().last().expect("a client has a home")
}

/// What the server counts, at a moment.
struct Counters(Vec<(&'static str, u64)>);

impl Counters {
    async fn read(subject: &impl Subject) -> Result<Self, BenchError> {
        Ok(Self(subject.baseline().counters().await?))
    }

    /// Adds to `row` what each has grown by since `before`, for one of `count` operations.
    fn add_to(&self, row: &mut Row, before: &Self, count: usize, of: &str) {
        for ((counter, now), (_, then)) in self.0.iter().zip(&before.0) {
            let each = now.saturating_sub(*then) as f64 / count.max(1) as f64;
            row.figure(
                format!("{}_per_{of}", counter.replace(' ', "_")),
                format!("{counter} a {of}"),
                each,
                Unit::Count,
            );
        }
    }
}
