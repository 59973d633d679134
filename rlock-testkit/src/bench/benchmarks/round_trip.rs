//! Measures the cheapest request.

use std::time::Instant;

use crate::bench::benchmark::Benchmark;
use crate::bench::error::BenchError;
use crate::bench::load::timed;
use crate::bench::plan::Plan;
use crate::bench::row::Row;
use crate::bench::samples::Samples;
use crate::bench::subject::{Observer, Subject};

pub(in crate::bench) async fn round_trip(
    subject: &impl Subject,
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<(), BenchError> {
    observer.begins("round trip");
    let baseline = subject.baseline();
    let trip = async || Ok(baseline.round_trip().await?);
    let begun = Instant::now();
    while begun.elapsed() < plan.time / 10 {
        trip().await?;
    }
    let (mut samples, begun) = (Samples::default(), Instant::now());
    while begun.elapsed() < plan.time {
        timed(&mut samples, trip()).await?;
    }
    observer.row(Row::new(Benchmark::RoundTrip, "round trip", 1).of(&samples));
    Ok(())
}
