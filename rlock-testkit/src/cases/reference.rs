//! Compares the backend with the reference: the same random operations must give the same answers.

mod comparison;
mod events;
mod operation;
mod run;
mod stores;

use std::cell::Cell;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rlock_core::Namespace;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use self::operation::operation;
use self::run::Run;
use crate::Stage;

/// No new sequence begins after this time.
const LONGEST: Duration = Duration::from_secs(30);

/// Two clients run random operations on shared resources. The backend must answer as the reference does, and send the
/// same events. A sequence ends where an expiry is so close to an operation that either answer is right.
///
/// `PROPTEST_CASES` sets the number of sequences, 40 by default; slow stores run fewer.
pub async fn random_operations_match_the_reference(stage: &Stage) {
    let (stage, runtime) = (stage.clone(), Handle::current());
    let compared = spawn_blocking(move || compare(&stage, &runtime)).await;
    compared.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
}

fn compare(stage: &Stage, runtime: &Handle) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40);
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_time: 20_000, ..ProptestConfig::default() };
    let (number, compared, cut_short) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let count = |counter: &Cell<u32>| counter.set(counter.get() + 1);
    let sequences = prop::collection::vec(operation(), 1..60);
    let begun = Instant::now();
    let outcome = TestRunner::new(config).run(&sequences, |operations| {
        if begun.elapsed() > LONGEST {
            return Ok(()); // a store that counts in seconds runs fewer sequences
        }
        runtime.block_on(async {
            count(&number);
            let namespace = format!("{}-{}", stage.namespace(), number.get());
            let mut run = Run::new(stage, Namespace::new(namespace).expect("it is short and plain")).await;
            for operation in &operations {
                if !run.step(operation).await? {
                    count(&cut_short);
                    return Ok(());
                }
                count(&compared);
            }
            run.compare_events().await
        })
    });
    let (number, compared, cut_short) = (number.get(), compared.get(), cut_short.get());
    println!("{number} sequences, {compared} operations compared, {cut_short} sequences cut short");
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(compared > number * 5, "nearly every sequence was cut short: {compared} operations in {number} sequences");
}
