//! Contests of processes while primaries fail.

use std::time::Duration;

use rlock_testkit::contest::{Arena, Mishap, Outcome, Workload};
use rlock_testkit::faults::Control;
use rlock_testkit::process::Program;

/// Kills and freezes processes while primaries are killed and cut off, and checks the history.
pub(crate) async fn contend_while_primaries_fail(
    workload: Workload,
    program: Program,
    url: &str,
    primaries: &dyn Control,
) {
    let seed = rand::random();
    println!("seed {seed}");
    let arena = Arena::new(workload, program, url, Some(primaries), 6, seed).await;
    let mishaps = [Mishap::ProcessKilled, Mishap::ProcessFrozen, Mishap::ServerPaused, Mishap::ServerKilled];
    only_lost_writes(&arena.run(Duration::from_secs(40), &mishaps, Duration::from_millis(250)).await);
}

/// Fails on any violation except those that an asynchronous failover may cause: the last grants are lost, and granted
/// again. The tokens protect what two holders then write to.
pub(crate) fn only_lost_writes(outcome: &Outcome) {
    let (counts, violation) = (&outcome.verdict.counts, &outcome.verdict.violation);
    println!("{:?}\n{counts}", outcome.mishaps);
    assert!(counts.tokens_protect(), "{counts}\n{:?}", violation.as_ref().map(ToString::to_string));
    assert!(counts.acquisitions > 30, "{counts}");
}
