//! From an unlock to the guard of the next holder, in another client.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use super::usual_home;
use crate::bench::acts::timed;
use crate::bench::{BenchError, Line, Locks, Observer, Plan, Row, Samples, Subject};

/// Of a queue, this part at most is used up before the rest of it is dropped, so that it stays about as long.
const PART: usize = 4;

pub(in crate::bench) async fn hand_over<S: Subject>(
    subject: &S,
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<(), BenchError> {
    let home = usual_home(subject);
    let clients = [subject.connect(home, None).await?, subject.connect(home, None).await?];
    let baseline = subject.baseline();
    for &waiters in &plan.waiters {
        let begins = |round: usize| format!("hand-over, {waiters} waiting, round {round}");
        let (mut bare, mut own) = (Samples::default(), Samples::default());
        let begun = Instant::now();
        let mut round = 0;
        while round == 0 || begun.elapsed() < 2 * plan.time {
            if round == 0 || waiters > 1 {
                observer.begins(&begins(round + 1));
            }
            let name = format!("hand-over/{waiters}/{round}");
            let mut push = async || timed(&mut bare, async { Ok(baseline.write_and_push().await?) }).await;
            queue_up_and_hand_over(&clients, &name, waiters, plan.time, &mut own, &mut push).await?;
            round += 1;
        }
        let mut row = Row::new(Line::HandOver, "bare write + push", 1).of(&bare);
        row.per_second = None;
        observer.row(row);
        observer.row(Row::new(Line::HandOver, "hand-over", waiters).of(&own).median_beside(&own, &bare));
    }
    Ok(())
}

/// Lets waiters of the two clients queue up in turns, so that each hand-over is to the other client. A push comes before each.
async fn queue_up_and_hand_over<L: Locks>(
    clients: &[L; 2],
    name: &str,
    waiters: usize,
    longest: Duration,
    samples: &mut Samples,
    push: &mut impl AsyncFnMut() -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    let mut held = clients[0].acquire(name).await?;
    let (grants, mut granted) = unbounded_channel();
    let mut crowd = JoinSet::new();
    for place in 1..=waiters {
        let (client, own_name, grants) = (clients[place % 2].clone(), name.to_owned(), grants.clone());
        crowd.spawn(async move {
            let outcome = client.acquire(&own_name).await;
            let _measured_enough = grants.send((Instant::now(), outcome));
        });
        while granted.is_empty() && clients[0].waiting(name).await? < place {}
    }
    let (mut holder, begun) = (0, Instant::now());
    for _ in 0..waiters.div_ceil(PART) {
        push().await?;
        let sent = Instant::now();
        let (released, next) = tokio::join!(clients[holder].release(held), granted.recv());
        released?;
        let (at, outcome) = next.expect("this has a sender as well");
        held = outcome?;
        holder = 1 - holder;
        samples.add(at.saturating_duration_since(sent));
        if begun.elapsed() > longest {
            break;
        }
    }
    crowd.shutdown().await;
    clients[holder].release(held).await
}
