//! Runs one case. The tests that `conformance!` generates call this.

mod case;

use std::any::Any;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

pub use case::{Broken, Case, Rule, Runnable};
use futures_util::future::LocalBoxFuture;
use rlock_core::{Capabilities, Namespace};
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::contest;
use crate::faults::Control;
use crate::network::Network;
use crate::process::{Helper, Program};
use crate::remote::{self, Remotes};
use crate::stage::Stage;
use crate::{Controlled, Harness, Shared};

/// The time limit of a case: 60 s for each of its rounds.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The variable with the number of rounds of each case, each in a new namespace of its store; 1 by default.
pub const ROUNDS: &str = "RLOCK_TEST_ROUNDS";

/// Time limit for the end of the tasks that a case has left running.
const WIND_UP: Duration = Duration::from_secs(1);

/// The body of a case that needs only a store.
pub type OnStage = for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, ()>;

/// The body of a case that needs other processes.
pub type WithProcesses = for<'a> fn(&'a Stage, &'a Remotes) -> LocalBoxFuture<'a, ()>;

/// The body of a case that needs a network with faults.
pub type WithNetwork = for<'a> fn(&'a Stage, &'a Network) -> LocalBoxFuture<'a, ()>;

/// The body of a case that controls the server.
pub type WithControl = for<'a> fn(&'a Stage, &'a dyn Control, &'a Remotes) -> LocalBoxFuture<'a, ()>;

/// Runs a case that needs no optional capability.
///
/// # Errors
///
/// [`Broken`] if the case panics, or takes longer than [`LIMIT`].
pub fn anywhere<H: Harness>(case: Case, body: OnStage) -> Result<(), Broken> {
    on_stage::<H>(case, body)
}

/// Runs a case that needs an optional capability of the backend.
fn needing<H: Harness>(
    case: Case,
    body: OnStage,
    what: &'static str,
    has: fn(&Capabilities) -> bool,
) -> Result<(), Broken> {
    on_stage::<H>(case, async |stage: &Stage| {
        assert!(has(stage.capabilities()), "the backend declares no {what}: say `without({what})`");
        body(stage).await;
    })
}

/// Runs a case that needs a queue.
///
/// # Errors
///
/// As [`anywhere`]; also if the backend declares that it has no queue.
pub fn queue<H: Harness>(case: Case, body: OnStage) -> Result<(), Broken> {
    needing::<H>(case, body, "queue", |can| can.queue)
}

/// Runs a case that needs events from the store.
///
/// # Errors
///
/// As [`anywhere`]; also if the backend declares that it does not push.
pub fn push<H: Harness>(case: Case, body: OnStage) -> Result<(), Broken> {
    needing::<H>(case, body, "push", |can| can.push)
}

/// Runs a case that needs rests.
///
/// # Errors
///
/// As [`anywhere`]; also if the backend declares that it cannot rest.
pub fn rest<H: Harness>(case: Case, body: OnStage) -> Result<(), Broken> {
    needing::<H>(case, body, "rest", |can| can.rest)
}

/// Runs a case that needs lease data.
///
/// # Errors
///
/// As [`anywhere`]; also if the backend declares that it keeps no data.
pub fn data<H: Harness>(case: Case, body: OnStage) -> Result<(), Broken> {
    needing::<H>(case, body, "data", |can| can.data)
}

/// Runs a case that needs other processes. In such a process, runs the helper.
///
/// # Errors
///
/// As [`anywhere`].
pub fn processes<H: Shared>(case: Case, body: WithProcesses) -> Result<(), Broken> {
    if let Some(helper) = Helper::current() {
        return serve::<H>(case, helper);
    }
    judge_rounds(rounds(), case, H::start, async |stage, harness| {
        body(stage, &remotes(case, stage, &harness.address())).await
    })
}

/// Runs a case that measures the bytes between client and store.
///
/// # Errors
///
/// As [`anywhere`].
pub fn cost<H: Shared>(case: Case, body: WithNetwork) -> Result<(), Broken> {
    network::<H>(case, body)
}

/// Runs a case that needs a network with faults between client and store.
///
/// # Errors
///
/// As [`anywhere`].
pub fn network<H: Shared>(case: Case, body: WithNetwork) -> Result<(), Broken> {
    judge_rounds(rounds(), case, H::start, async |stage, harness| {
        let network = Network::new::<H>(harness.address(), stage.namespace().clone());
        body(stage, &network).await;
    })
}

/// Runs a case that injects faults into the server of the store. In a helper process of such a case, runs the helper.
///
/// # Errors
///
/// As [`anywhere`].
pub fn control<H: Controlled>(case: Case, body: WithControl) -> Result<(), Broken> {
    if let Some(helper) = Helper::current() {
        return serve::<H>(case, helper);
    }
    // The server may be down at the end of a round, so each round starts a new one.
    (0..rounds()).try_for_each(|_| {
        judge_rounds(1, case, H::start_durable, async |stage, harness| {
            body(stage, harness.server(), &remotes(case, stage, &harness.address())).await;
        })
    })
}

fn remotes(case: Case, stage: &Stage, address: &str) -> Remotes {
    let program = Program::test(case.module, case.name);
    Remotes::new(program.with(remote::NAMESPACE, stage.namespace()), address)
}

fn serve<H: Shared>(case: Case, helper: Helper) -> Result<(), Broken> {
    judge(case, async {
        let namespace = Namespace::new(helper.setting(remote::NAMESPACE)).expect("the test's own namespace");
        let stage = async |address: &str| Stage::in_namespace(Arc::new(H::attach(address).await), namespace).await;
        match helper.role() {
            contest::ROLE => contest::run_contender(helper, async |at| stage(at).await.client().await).await,
            _ => remote::obey(&stage(&helper.setting(remote::ADDRESS)).await, helper).await,
        }
    })
}

/// Checks that the tests leave out exactly the cases whose capabilities the backend lacks.
///
/// # Errors
///
/// [`Broken`] with the capability that does not agree.
pub fn declarations<H: Harness>(case: Case, left_out: &[&str]) -> Result<(), Broken> {
    on_stage::<H>(case, async |stage: &Stage| {
        let can = stage.capabilities();
        let declared = [("queue", can.queue), ("push", can.push), ("rest", can.rest), ("data", can.data)];
        for (capability, has_it) in declared {
            let checked = !left_out.contains(&capability);
            assert_eq!(has_it, checked, "{capability}: the backend has it / the tests check it");
        }
    })
}

fn on_stage<H: Harness>(case: Case, body: impl AsyncFn(&Stage)) -> Result<(), Broken> {
    judge_rounds(rounds(), case, H::start, async |stage, _harness| body(stage).await)
}

/// Runs a case on one store, in `rounds` namespaces.
fn judge_rounds<H: Harness, F: Future<Output = H>>(
    rounds: usize,
    case: Case,
    start: impl FnOnce() -> F,
    body: impl AsyncFn(&Stage, &H),
) -> Result<(), Broken> {
    judge(case, async {
        let harness = Arc::new(in_time(start()).await);
        for _ in 0..rounds {
            in_time(async { body(&Stage::new(harness.clone()).await, &harness).await }).await;
        }
    })
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.unwrap_or_else(|_elapsed| panic!("not done within {LIMIT:?}"))
}

fn rounds() -> usize {
    let Ok(rounds) = env::var(ROUNDS) else { return 1 };
    rounds
        .parse()
        .ok()
        .filter(|&rounds| rounds > 0)
        .unwrap_or_else(|| panic!("{ROUNDS}={rounds}: not a number of rounds"))
}

fn judge(case: Case, body: impl Future<Output = ()>) -> Result<(), Broken> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("the system has threads");
    let verdict = catch_unwind(AssertUnwindSafe(|| runtime.block_on(body)));
    runtime.shutdown_timeout(WIND_UP);
    verdict.map_err(|panic| Broken { case, what: words_of(&*panic).to_owned() })
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use super::*;
    use crate::MemoryHarness;

    const CASE: Case = Case { backend: "memory", module: "tests", name: "rounds", rule: Rule::Declared };

    #[test]
    fn each_round_has_a_namespace_of_its_own() {
        let seen = Mutex::new(BTreeSet::new());
        let body = async |stage: &Stage, _: &MemoryHarness| {
            seen.lock().unwrap().insert(stage.namespace().to_string());
        };
        judge_rounds(3, CASE, MemoryHarness::start, body).unwrap();
        assert_eq!(seen.into_inner().unwrap().len(), 3);
    }

    #[test]
    fn one_failed_round_fails_the_case() {
        let rounds = Mutex::new(0);
        let body = async |_: &Stage, _: &MemoryHarness| {
            let mut round = rounds.lock().unwrap();
            *round += 1;
            assert!(*round < 2, "broken in the second round");
        };
        let broken = judge_rounds(3, CASE, MemoryHarness::start, body).unwrap_err();
        assert_eq!(broken.what(), "broken in the second round");
    }
}
