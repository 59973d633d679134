//! Measures the requests of a waiter, which joins a queue and renews its lease there.

use std::fmt::Debug;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rlock_core::{
    Acquired, Backend, Baseline, Claim, Extended, Extension, Failure, IfBusy, LeaseId, LeaseKey, Owner, Release,
    ResourceName, Share, Ttl,
};
use tokio::time::sleep;

use crate::bench::benchmark::Benchmark;
use crate::bench::error::BenchError;
use crate::bench::load::timed;
use crate::bench::plan::Plan;
use crate::bench::row::Row;
use crate::bench::samples::Samples;
use crate::bench::subject::{Observer, Subject};

/// The number of waiters that join or leave in one request while the queue is built and removed.
const AT_A_TIME: usize = 64;
/// Time limit for the waiters that join in one request.
const QUEUED_WITHIN: Duration = Duration::from_secs(30);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);
/// The life of the leases beyond the measurement: the queue is built and removed in it.
const SPARE: Duration = Duration::from_secs(600);

/// Measures the requests themselves, because a client renews its waiters by itself.
pub(in crate::bench) async fn queue(
    subject: &impl Subject,
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<(), BenchError> {
    let Some(backend) = subject.backend().await?.filter(|backend| backend.capabilities().queue) else { return Ok(()) };
    let baseline = subject.baseline();
    let life = Ttl::new(3 * plan.time + SPARE).unwrap_or(Ttl::MAX).min(backend.capabilities().max_ttl);
    for &waiters in &plan.waiters {
        observer.begins(&format!("the requests of a waiter, {waiters} waiting"));
        let queue = Queue::of(backend.clone(), waiters, life).await?;
        queue.turn(&*baseline, &mut Turns::default()).await?;
        let (mut turns, begun) = (Turns::default(), Instant::now());
        while turns.bare.count() == 0 || begun.elapsed() < 3 * plan.time {
            queue.turn(&*baseline, &mut turns).await?;
        }
        queue.remove().await?;
        let Turns { bare, joins, renewals } = turns;
        observer.row(Row::new(Benchmark::Queue, "bare pair", waiters).bare().of(&bare));
        for (what, own) in [("join of a queue", joins), ("renewal of a waiter", renewals)] {
            observer.row(Row::new(Benchmark::Queue, what, waiters).of(&own).median_beside(&own, &bare));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Turns {
    bare: Samples,
    joins: Samples,
    renewals: Samples,
}

/// A held resource and its queue.
struct Queue {
    backend: Arc<dyn Backend>,
    resource: ResourceName,
    life: Ttl,
    owner: Arc<Owner>,
    /// The holder's lease, and those of the waiters.
    leases: Vec<LeaseKey>,
}

impl Queue {
    async fn of(backend: Arc<dyn Backend>, waiters: usize, life: Ttl) -> Result<Self, BenchError> {
        let resource = ResourceName::new(format!("queue/{waiters}")).expect("it is short and plain");
        let mut queue = Self { backend, resource, life, owner: Arc::new(Owner::current()), leases: Vec::new() };
        let holder = queue.claim();
        queue.claim_all(slice::from_ref(&holder)).await?;
        let claims: Vec<_> = (0..waiters).map(|_| queue.claim()).collect();
        for some in claims.chunks(AT_A_TIME) {
            queue.claim_all(some).await?;
        }
        queue.leases = slice::from_ref(&holder).iter().chain(&claims).map(|claim| claim.key.clone()).collect();
        Ok(queue)
    }

    fn claim(&self) -> Claim {
        Claim {
            key: LeaseKey { resource: self.resource.clone(), id: LeaseId::random() },
            share: Share::EXCLUSIVE,
            ttl: self.life,
            if_busy: IfBusy::Queue,
            owner: self.owner.clone(),
            data: None,
        }
    }

    /// Sends claims until the store has confirmed all of them.
    async fn claim_all(&self, claims: &[Claim]) -> Result<(), BenchError> {
        let begun = Instant::now();
        loop {
            let answers: Result<Vec<_>, _> = self.backend.acquire(claims).await.into_iter().collect();
            match answers {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > QUEUED_WITHIN => return Err(error.into()),
                Err(_) => sleep(BETWEEN_TRIES).await,
            }
        }
    }

    /// Measures a bare pair, the join of another waiter, and a renewal of the last one before it. The other waiter
    /// leaves the queue afterwards, so that its length stays the same.
    async fn turn(&self, baseline: &dyn Baseline, turns: &mut Turns) -> Result<(), BenchError> {
        let other = self.claim();
        let last = self.leases.last().expect("it has a holder");
        timed(&mut turns.bare, async { Ok(baseline.pair("queue").await?) }).await?;
        timed(&mut turns.joins, self.join(&other)).await?;
        timed(&mut turns.renewals, self.renew(last.clone())).await?;
        self.release(slice::from_ref(&other.key)).await
    }

    async fn join(&self, claim: &Claim) -> Result<(), BenchError> {
        match self.backend.acquire(slice::from_ref(claim)).await.remove(0)? {
            Acquired::Queued(_) => Ok(()),
            other => Err(self.unexpected("join a queue", &other)),
        }
    }

    async fn renew(&self, key: LeaseKey) -> Result<(), BenchError> {
        match self.backend.extend(&[Extension { key, ttl: self.life }]).await.remove(0)? {
            Extended::Queued(_) => Ok(()),
            other => Err(self.unexpected("renew in a queue", &other)),
        }
    }

    async fn release(&self, keys: &[LeaseKey]) -> Result<(), BenchError> {
        let releases: Vec<_> = keys.iter().cloned().map(Release::from).collect();
        for released in self.backend.release(&releases).await {
            released?;
        }
        Ok(())
    }

    /// Removes the waiters before the holder, so that none of them is granted.
    async fn remove(&self) -> Result<(), BenchError> {
        let (holder, waiters) = self.leases.split_first().expect("it has a holder");
        for some in waiters.chunks(AT_A_TIME) {
            self.release(some).await?;
        }
        self.release(slice::from_ref(holder)).await
    }

    fn unexpected(&self, operation: &'static str, answer: &dyn Debug) -> BenchError {
        Failure::new(operation, self.backend.capabilities().backend, format!("the store answered {answer:?}")).into()
    }
}
