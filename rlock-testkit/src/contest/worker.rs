//! A process of an arena.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rlock_core::Client;
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

/// Runs a process of an [`Arena`](super::Arena), which contends until the arena stops it. `connect` has to return a
/// client of the store at the given address.
///
/// # Panics
///
/// Panics if the process was not started by an arena.
pub async fn contend_as_told(mut helper: Helper, connect: impl AsyncFnOnce(&str) -> Client) {
    let client = connect(&helper.setting(ADDRESS)).await;
    let number: u32 = parsed(&helper, NUMBER);
    let recorder = recorder(Path::new(&helper.setting(FOLDER)), number);
    let workload: Workload = parsed(&helper, WORKLOAD);
    let seed: u64 = parsed(&helper, SEED);
    let ends = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for task in 0..workload.tasks {
        let mut registers = Registers::at(&helper.setting(REGISTERS)).await.expect("the arena serves the registers");
        let (client, recorder, workload, ends) = (client.clone(), recorder.clone(), workload.clone(), ends.clone());
        let mut chance = StdRng::seed_from_u64(seed ^ ((task as u64) << 32));
        tasks.push(tokio::spawn(async move {
            let goes_on = || !ends.load(Ordering::SeqCst);
            contend(&client, &recorder, &mut registers, &workload, &mut chance, goes_on).await;
        }));
    }
    notice_starvation(&recorder);
    helper.say("ready");
    assert_eq!(helper.hear().await, "stop");
    ends.store(true, Ordering::SeqCst);
    let ended = join_all(tasks).await.into_iter().all(|task| task.is_ok());
    helper.say(if ended { "done" } else { "a task panicked" });
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
