//! Contests of processes while primaries fail.

use std::time::Duration;

use rlock_testkit::contest::{Arena, Mishap, Outcome, Workload};
use rlock_testkit::faults::Control;
use rlock_testkit::process::Program;
use rlock_testkit::wait::eventually;
use tokio::time::sleep;

/// Kills and freezes processes while primaries are killed and cut off, each at least once, and checks the history.
/// `primaries` wait for the promotion of another server.
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
    let faults = async {
        sleep(Duration::from_secs(40)).await;
        eventually(Duration::from_secs(60), "each kind of fault", async || arena.has_begun_each()).await;
    };
    only_lost_writes(&arena.run_during(faults, &mishaps, Duration::from_millis(250)).await);
}

/// Fails on any violation except those that an asynchronous failover may cause: the last grants are lost, and granted
/// again. The tokens protect what two holders then write to.
pub(crate) fn only_lost_writes(outcome: &Outcome) {
    let (counts, violation) = (&outcome.verdict.counts, &outcome.verdict.violation);
    println!("{:?}\n{counts}", outcome.mishaps);
    assert!(outcome.mishaps.values().all(|count| *count > 0), "not each kind of fault happened: {:?}", outcome.mishaps);
    assert!(counts.tokens_protect(), "{counts}\n{:?}", violation.as_ref().map(ToString::to_string));
    assert!(counts.acquisitions > 30, "{counts}");
}
