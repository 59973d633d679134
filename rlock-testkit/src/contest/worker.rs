//! A process of an arena.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rlock_core::Client;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::contender::contend;
use super::registers::Registers;
use super::workload::Workload;
use crate::history::{Recorder, What, now};
use crate::process::Helper;
use crate::remote::ADDRESS;

/// The role of a process of an arena.
pub(crate) const ROLE: &str = "contender";

pub(super) const WORKLOAD: &str = "workload";
pub(super) const FOLDER: &str = "folder";
pub(super) const NUMBER: &str = "number";
pub(super) const SEED: &str = "seed";
pub(super) const REGISTERS: &str = "registers";

const PANICKED: &str = "a task panicked";

/// Runs a process of an [`Arena`](super::Arena), which contends until the arena stops it. `connect` has to return a
/// client of the store at the given address.
///
/// # Panics
///
/// Panics if the process was not started by an arena.
pub async fn run_contender(mut helper: Helper, connect: impl AsyncFnOnce(&str) -> Client) {
    let client = connect(&helper.setting(ADDRESS)).await;
    let number: u32 = parsed(&helper, NUMBER);
    let recorder = recorder(Path::new(&helper.setting(FOLDER)), number);
    let workload: Workload = parsed(&helper, WORKLOAD);
    let seed: u64 = parsed(&helper, SEED);
    let ends = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for task in 0..workload.tasks {
        let mut registers = Registers::at(&helper.setting(REGISTERS)).await.expect("the arena serves the registers");
        let (client, recorder, workload, ends) = (client.clone(), recorder.clone(), workload.clone(), ends.clone());
        let mut chance = StdRng::seed_from_u64(seed ^ ((task as u64) << 32));
        tasks.spawn(async move {
            let is_ending = || ends.load(Ordering::SeqCst);
            contend(&client, &recorder, &mut registers, &workload, &mut chance, || !is_ending(), is_ending).await;
        });
    }
    notice_starvation(&recorder);
    helper.say("ready");
    let mut panicked = tokio::select! {
        line = helper.hear() => {
            assert_eq!(line, "stop");
            false
        }
        // Only a panic ends a task before the stop. The arena may kill this process before it stops the others.
        Some(_) = tasks.join_next() => true,
    };
    if !panicked {
        ends.store(true, Ordering::SeqCst);
        while let Some(ended) = tasks.join_next().await {
            panicked |= ended.is_err();
        }
    }
    helper.say(if panicked { PANICKED } else { "done" });
    std::future::pending::<Infallible>().await;
}

/// Notes when the machine does not let this process run: a short sleep of a thread or a task took longer than asked.
fn notice_starvation(recorder: &Recorder) {
    const MOMENT: Duration = Duration::from_millis(5);
    fn note(recorder: &Recorder, since: Duration) {
        if now() - since > 2 * MOMENT {
            recorder.note(What::Starved { process: recorder.process(), since });
        }
    }

    let (of_thread, of_task) = (recorder.clone(), recorder.clone());
    thread::spawn(move || {
        loop {
            let since = now();
            thread::sleep(MOMENT);
            note(&of_thread, since);
        }
    });
    tokio::spawn(async move {
        loop {
            let since = now();
            sleep(MOMENT).await;
            note(&of_task, since);
        }
    });
}

/// Records a process in its own file in `folder`.
pub(super) fn recorder(folder: &Path, process: u32) -> Recorder {
    Recorder::in_folder(folder, process).unwrap_or_else(|error| panic!("{error}"))
}

fn parsed<T: std::str::FromStr>(helper: &Helper, name: &str) -> T {
    let text = helper.setting(name);
    text.parse().unwrap_or_else(|_| panic!("the arena says {name} = {text:?}"))
}

#[cfg(test)]
mod tests {
    use rlock_core::{MemoryStore, Namespace};

    use super::*;
    use crate::contest::registers;
    use crate::history::Register;

    #[test]
    fn panic_of_a_contender_is_reported_at_once() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("the system has threads");
        if let Some(helper) = Helper::current() {
            runtime.block_on(run_contender(helper, async |_: &str| closed_client().await));
            return;
        }
        runtime.block_on(async {
            let folder = tempfile::tempdir().expect("the system has a place for temporary files");
            let registers = registers::serve(Register::new(Recorder::in_memory(0))).await;
            let (ttl, hold) = (Duration::from_secs(1), Duration::from_millis(1));
            let workload = Workload { ttl, hold, long_holds: 0, tasks: 1, mutexes: 1, rw_locks: 0, semaphores: 0 };
            let program = crate::this_test!()
                .with(ADDRESS, "memory")
                .with(FOLDER, folder.path().display())
                .with(NUMBER, 1)
                .with(WORKLOAD, workload)
                .with(SEED, 1)
                .with(REGISTERS, registers.expect("the loopback interface has a port"));
            let mut process = program.start(ROLE);
            assert_eq!(process.hear().await, "ready");
            assert_eq!(process.hear().await, PANICKED);
        });
    }

    /// A client whose locks end with an error that no contender expects.
    async fn closed_client() -> Client {
        let client = Client::new(MemoryStore::new().client(Namespace::default()));
        client.shutdown(Duration::from_secs(10)).await.expect("it has no leases");
        client
    }
}
