//! Measures the time from an unlock to the guard of the next holder, in another client.

use std::time::{Duration, Instant};

use rlock_core::Baseline;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bench::benchmark::Benchmark;
use crate::bench::error::BenchError;
use crate::bench::load::timed;
use crate::bench::locks::Locks;
use crate::bench::plan::Plan;
use crate::bench::row::Row;
use crate::bench::samples::Samples;
use crate::bench::subject::{Observer, Subject};

/// The number of hand-overs from one queue: few enough to keep its length about the same.
const TURNS: usize = 32;
/// The number of other waiters that join the queue at a time.
const AT_A_TIME: usize = 32;
/// Time limit for waiters to join the queue. A slower store has a shorter queue, whose length the row reports.
const QUEUED_WITHIN: Duration = Duration::from_secs(30);
/// Time limit for the store to finish its work on the queued waiters.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
/// The interval between checks whether the store has queued the waiters.
const LOOK_EVERY: Duration = Duration::from_millis(1);

pub(in crate::bench) async fn hand_over<S: Subject>(
    subject: &S,
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<(), BenchError> {
    let mut clients = Vec::new();
    for &home in subject.homes() {
        clients.push((home, [subject.connect(home, None).await?, subject.connect(home, None).await?]));
    }
    let baseline = subject.baseline();
    for &waiters in &plan.waiters {
        let mut bare = Samples::default();
        let mut owns = Vec::new();
        for (home, clients) in &clients {
            let (mut own, mut queued) = (Samples::default(), waiters);
            let (begun, mut round) = (Instant::now(), 0);
            while round == 0 || begun.elapsed() < 2 * plan.time {
                if round == 0 || waiters > 1 {
                    observer.begins(&format!("hand-over, {}, {waiters} waiting, round {}", home.says(), round + 1));
                }
                let name = format!("hand-over/{waiters}/{}/{round}", home.says());
                let queue = Queue::of(clients, &name, waiters).await?;
                queued = queued.min(queue.waiters);
                quiet(&*baseline).await?;
                let mut push = async || timed(&mut bare, async { Ok(baseline.write_and_push().await?) }).await;
                queue.hand_over(plan.time, &mut own, &mut push).await?;
                round += 1;
            }
            owns.push((*home, own, queued));
        }
        let mut row = Row::new(Benchmark::HandOver, "bare write + push", 1).bare().of(&bare);
        row.per_second = None;
        observer.row(row);
        for (home, own, queued) in owns {
            let row = Row::new(Benchmark::HandOver, format!("hand-over, {}", home.says()), queued);
            observer.row(row.of(&own).median_beside(&own, &bare));
        }
    }
    Ok(())
}

/// Waits until the store answers: many claims at once may keep it busy for longer than a request waits.
async fn quiet(baseline: &dyn Baseline) -> Result<(), BenchError> {
    let begun = Instant::now();
    loop {
        match baseline.pair("quiet").await {
            Err(error) if error.may_have_been_applied() && begun.elapsed() < QUIET_WITHIN => {}
            answered => return Ok(answered?),
        }
    }
}

/// A held lock and its queue. The first waiters alternate between the two clients, so that each hand-over is to the other
/// client; the rest wait behind them.
struct Queue<'a, L: Locks> {
    clients: &'a [L; 2],
    held: L::Held,
    granted: UnboundedReceiver<(Instant, Result<L::Held, BenchError>)>,
    crowd: JoinSet<()>,
    waiters: usize,
}

impl<'a, L: Locks> Queue<'a, L> {
    async fn of(clients: &'a [L; 2], name: &str, waiters: usize) -> Result<Self, BenchError> {
        let held = clients[0].acquire(name).await?;
        let (grants, granted) = unbounded_channel();
        let mut crowd = JoinSet::new();
        let begun = Instant::now();
        for place in 1..=waiters {
            if place > TURNS && begun.elapsed() > QUEUED_WITHIN {
                break;
            }
            let (client, own_name, grants) = (clients[place % 2].clone(), name.to_owned(), grants.clone());
            crowd.spawn(async move {
                let outcome = client.acquire(&own_name).await;
                let _measured_enough = grants.send((Instant::now(), outcome));
            });
            let may_be_on_their_way = if place <= TURNS { 0 } else { AT_A_TIME };
            while granted.is_empty() && clients[0].waiting(name).await? + may_be_on_their_way < place {
                sleep(LOOK_EVERY).await;
            }
        }
        let waiters = crowd.len();
        while granted.is_empty() && clients[0].waiting(name).await? < waiters {
            sleep(LOOK_EVERY).await;
        }
        Ok(Self { clients, held, granted, crowd, waiters })
    }

    async fn hand_over(
        mut self,
        longest: Duration,
        samples: &mut Samples,
        push: &mut impl AsyncFnMut() -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let (mut holder, begun) = (0, Instant::now());
        for _ in 0..self.waiters.min(TURNS) {
            push().await?;
            let sent = Instant::now();
            let (released, next) = tokio::join!(self.clients[holder].release(self.held), self.granted.recv());
            released?;
            let (at, outcome) = next.expect("each waiter sends its outcome");
            self.held = outcome?;
            holder = 1 - holder;
            samples.add(at.saturating_duration_since(sent));
            if begun.elapsed() > longest {
                break;
            }
        }
        self.crowd.shutdown().await;
        self.clients[holder].release(self.held).await
    }
}
