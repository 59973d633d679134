//! A contender, which acquires locks over and over.

use std::pin::pin;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rlock_core::{Client, Guard, LockError, LossReason};
use tokio::time::{Instant, sleep_until};

use super::registers::Registers;
use super::workload::{Want, Workload};
use crate::chance::up_to;
use crate::history::{Op, Recorder, What, now};

/// Interval at which a holder checks its lock.
const LOOK: Duration = Duration::from_millis(10);

/// Acquires locks, works under them and releases them, as long as `goes_on` says so, and notes every event.
///
/// An exclusive holder reads the register and writes its value plus one, so that every lost update shows. Most locks
/// are released, some are dropped. The work under a lock ends at once when the lock is lost, and early once `is_ending`
/// says so, so that the waiters of the end are soon served.
///
/// # Panics
///
/// Panics if the store refuses a valid request.
pub async fn contend(
    client: &Client,
    recorder: &Recorder,
    registers: &mut Registers,
    workload: &Workload,
    chance: &mut StdRng,
    mut goes_on: impl FnMut() -> bool,
    is_ending: impl Fn() -> bool,
) {
    while goes_on() {
        let want = workload.want(chance);
        let op = recorder.op();
        recorder.note(What::Asked { op, resource: want.resource(), share: want.share() });
        match want.ask(client, workload.ttl, workload.patience(chance)).await {
            Ok(Some(guard)) => {
                let begun = now();
                let until = begun + guard.remaining();
                recorder.note(What::Granted { op, token: guard.token().get(), until });
                // Some holds last so long that the lock has to be renewed many times, and can be lost.
                let longest =
                    if chance.random_ratio(workload.long_holds, 100) { workload.ttl * 3 } else { workload.hold };
                let time = up_to(longest, chance);
                Work { op, want, recorder, until, time }.run(guard, registers, chance, &is_ending).await;
            }
            Ok(None) | Err(LockError::TimedOut { .. } | LockError::Unanswered { .. }) => {
                recorder.note(What::Refused { op });
            }
            Err(LockError::Unavailable { .. } | LockError::TtlTooShort { .. }) => recorder.note(What::Unknown { op }),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The work under one lock.
struct Work<'a> {
    op: Op,
    want: Want,
    recorder: &'a Recorder,
    /// The last deadline that the holder knew.
    until: Duration,
    time: Duration,
}

impl Work<'_> {
    async fn run(
        mut self,
        guard: Guard,
        registers: &mut Registers,
        chance: &mut StdRng,
        is_ending: &impl Fn() -> bool,
    ) {
        let (op, resource, token) = (self.op, guard.resource().clone(), guard.token().get());
        let value = match self.want.is_exclusive() {
            true => registers.open(op, &resource, token).await,
            false => None,
        };
        if let Err(reason) = self.hold(&guard, is_ending).await {
            self.lost(reason);
            return;
        }
        if let Some(value) = value {
            let _refused_if_stale = registers.write(op, &resource, token, value).await;
        }
        self.look(&guard);
        self.recorder.note(What::Releasing { op });
        if chance.random_bool(0.1) {
            drop(guard);
            self.recorder.note(What::Released { op, known: false });
            return;
        }
        // A loss that is found after the release needs no signal by the deadline.
        let known = guard.unlock().await.is_ok();
        self.recorder.note(What::Released { op, known });
    }

    /// Holds the lock for `time` or until the end, and checks it at intervals.
    async fn hold(&mut self, guard: &Guard, is_ending: &impl Fn() -> bool) -> Result<(), LossReason> {
        let mut lost = pin!(guard.lost());
        let end = Instant::now() + self.time;
        loop {
            tokio::select! {
                biased;
                reason = &mut lost => return Err(reason),
                () = sleep_until(end.min(Instant::now() + LOOK)) => {}
            }
            self.look(guard);
            if Instant::now() >= end || is_ending() {
                return guard.loss().map_or(Ok(()), Err);
            }
        }
    }

    fn look(&mut self, guard: &Guard) {
        let begun = now();
        let remaining = guard.remaining();
        if !remaining.is_zero() {
            self.until = begun + remaining;
            self.recorder.note_at(begun, What::Believed { op: self.op, until: self.until });
        }
    }

    fn lost(&self, reason: LossReason) {
        self.recorder.note(What::Lost { op: self.op, reason, until: Some(self.until) });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::future::{join, join_all};
    use rand::SeedableRng as _;
    use rlock_core::{MemoryStore, Namespace};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::history::{History, Register};

    /// The waiters of the end are served, although the holds in front of them would last for minutes.
    #[tokio::test]
    async fn end_of_a_contest_cuts_holds_short() {
        let ttl = Duration::from_secs(60);
        let workload = Workload { ttl, hold: ttl, long_holds: 100, tasks: 1, mutexes: 1, rw_locks: 0, semaphores: 0 };
        let (recorder, ends) = (Recorder::in_memory(1), AtomicBool::new(false));
        let register = Register::new(recorder.clone());
        let client = Client::new(MemoryStore::new().client(Namespace::default()));
        let is_ending = || ends.load(Ordering::SeqCst);
        let contenders = (0..6).map(|seed| {
            let (mut registers, mut chance) = (Registers::Here(register.clone()), StdRng::seed_from_u64(seed));
            let (client, recorder, workload) = (&client, &recorder, &workload);
            async move {
                contend(client, recorder, &mut registers, workload, &mut chance, || !is_ending(), is_ending).await;
            }
        });
        let stop = async {
            sleep(Duration::from_millis(200)).await;
            ends.store(true, Ordering::SeqCst);
        };
        let served = timeout(Duration::from_secs(10), join(join_all(contenders), stop)).await;
        assert!(served.is_ok(), "a waiter was not served");
        recorder.note(What::End);
        let verdict = History::new(recorder.entries().unwrap()).unwrap().check(Duration::from_millis(250));
        assert_eq!(verdict.into_result().unwrap().forgotten, 0);
    }
}
