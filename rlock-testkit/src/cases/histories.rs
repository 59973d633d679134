//! Histories of concurrent clients, recorded and checked as a whole.

use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rlock_core::{Client, Share};
use tokio::time::sleep;

use crate::chance::{chance, up_to};
use crate::contest::{Arena, Registers, Workload, contend};
use crate::faults::{Control, Faults, Odds};
use crate::history::{Counts, History, Recorder, Register, What, now};
use crate::locking::{lock_as, unwatched};
use crate::peer::resource;
use crate::{Remotes, Stage};

/// How late a loss may be signalled to a task of a test that runs beside others.
const LATE: Duration = Duration::from_millis(250);

/// Clients take turns on mutexes while requests and replies get lost, are delayed, and arrive twice. Never two hold a
/// mutex, tokens increase, no update is lost, and no waiter is forgotten.
pub async fn mutex_history(stage: &Stage) {
    judged(stage, Workload { mutexes: 2, ..workload(stage) }).await;
}

/// The same with readers and writers.
pub async fn rw_history(stage: &Stage) {
    judged(stage, Workload { rw_locks: 1, ..workload(stage) }).await;
}

/// The same with semaphores; each claim takes one permit or more.
pub async fn semaphore_history(stage: &Stage) {
    judged(stage, Workload { semaphores: 1, ..workload(stage) }).await;
}

fn workload(stage: &Stage) -> Workload {
    let (ttl, hold) = (stage.brisk() * 2, Duration::from_millis(10));
    Workload { ttl, hold, long_holds: 2, tasks: 1, mutexes: 0, rw_locks: 0, semaphores: 0 }
}

async fn judged(stage: &Stage, workload: Workload) {
    const CLIENTS: usize = 6;
    const TURNS: usize = 15;
    let odds = Odds {
        delay: 0.1,
        longest_delay: Duration::from_millis(20),
        drop_request: 0.05,
        drop_reply: 0.05,
        duplicate: 0.05,
    };
    let mut seeds = chance();
    let recorder = Recorder::in_memory(1);
    let register = Register::new(recorder.clone());
    let contenders = (0..CLIENTS).map(|_| seeds.random()).collect::<Vec<u64>>().into_iter().map(|seed| {
        let (recorder, register, workload) = (recorder.clone(), register.clone(), workload.clone());
        async move {
            let client = stage.faulty_client(&Faults::seeded(seed, odds)).await;
            let (mut registers, mut chance) = (Registers::Here(register), StdRng::seed_from_u64(seed));
            let mut turns = 0..TURNS;
            let goes_on = || turns.next().is_some();
            contend(&client, &recorder, &mut registers, &workload, &mut chance, goes_on, || false).await;
        }
    });
    join_all(contenders).await;
    let counts = right(&recorder);
    assert!(counts.acquisitions > (CLIENTS * TURNS / 2) as u64, "{counts}");
}

/// Holders that continue to work after their loss do no harm to a resource that checks fencing tokens.
pub async fn fenced_register(stage: &Stage) {
    const CLIENTS: usize = 4;
    const TURNS: usize = 5;
    let mut seeds = chance();
    let recorder = Recorder::in_memory(1);
    let register = Register::new(recorder.clone());
    let clients: Vec<Client> = join_all((0..CLIENTS).map(|_| stage.client())).await;
    let careless = clients.into_iter().map(|client| {
        let (recorder, register) = (recorder.clone(), register.clone());
        let mut chance = StdRng::seed_from_u64(seeds.random());
        async move {
            for _ in 0..TURNS {
                let op = recorder.op();
                recorder.note(What::Asked { op, resource: resource("x"), share: Share::EXCLUSIVE });
                let guard = lock_as(&client, "x", unwatched(stage.short())).await;
                let (at, token) = (now(), guard.token().get());
                recorder.note(What::Granted { op, token, until: at + guard.remaining() });
                let value = register.open(op, &resource("x"), token);
                sleep(up_to(stage.short() * 2, &mut chance)).await;
                if let Ok(value) = value {
                    let _refused_if_stale = register.write(op, &resource("x"), token, value, value + 1);
                }
                match guard.loss() {
                    Some(reason) => recorder.note(What::Lost { op, reason, until: None }),
                    None => recorder.note(What::Releasing { op }),
                }
                let known = guard.unlock().await.is_ok();
                recorder.note(What::Released { op, known });
            }
        }
    });
    join_all(careless).await;
    let counts = right(&recorder);
    assert!(counts.refused_writes + counts.refused_opens > 0, "no holder was late: {counts}");
    assert!(counts.writes > 0, "{counts}");
}

fn right(recorder: &Recorder) -> Counts {
    recorder.note(What::End);
    let entries = recorder.entries().unwrap_or_else(|error| panic!("{error}"));
    let history = History::new(entries).unwrap_or_else(|error| panic!("{error}"));
    let verdict = history.check(LATE);
    println!("{}", verdict.counts);
    verdict.into_result().unwrap_or_else(|violation| panic!("{violation}"))
}

/// Processes that are killed, frozen and cut off take turns while the store is paused, killed and loses its data. Never
/// two hold a lock, tokens increase, no update is lost, every loss is signalled in time, and no waiter is forgotten.
pub async fn under_kills_and_pauses(stage: &Stage, server: &dyn Control, remotes: &Remotes) {
    let ttl = stage.brisk() * 2;
    let workload = Workload { hold: ttl / 10, ..Workload::mixed(ttl) };
    let seed = chance().random();
    let arena = Arena::new(workload, remotes.program().clone(), remotes.address(), Some(server), 4, seed).await;
    let outcome = arena.run(ttl * 6, &arena.possible(), LATE).await;
    println!("{:?}\n{}", outcome.mishaps, outcome.verdict.counts);
    let counts = outcome.verdict.into_result().unwrap_or_else(|violation| panic!("{violation}"));
    assert!(counts.acquisitions > 10, "{counts}");
    assert!(outcome.mishaps.values().sum::<u64>() > 5, "nothing went wrong");
}
