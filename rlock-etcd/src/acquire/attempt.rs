//! Claims on their way: the lease of etcd's that each is made with, and the requests that carry them.

use std::time::{Duration, SystemTime};

use etcd_client::TxnOp;
use futures_util::future::{join, join_all};
use rlock_core::{Claim, Moment};

use super::{Answer, Numbered};
use crate::answer::{Decided, Done, Found, Outcome, foreign};
use crate::error::{CallError, Kind};
use crate::inner::Inner;
use crate::line::Entry;
use crate::pool::Lease;
use crate::record::{Record, State};
use crate::spot::Spot;
use crate::txn::{self, At, Put};

/// How often claims are sent anew with other leases of etcd's, because it turned out that there are none of those that they
/// were made with.
const TRIES: usize = 4;

/// How long ago a lease of etcd's may have been touched, if that is no more than a hundredth of its life, and count as having
/// all of that before it.
const FRESH: Duration = Duration::from_millis(100);

/// A claim, and the lease of etcd's that it is made with.
#[derive(Clone)]
pub(super) struct Attempt<'a> {
    /// Where its answer belongs.
    pub(super) at: usize,
    pub(super) claim: &'a Claim,
    pub(super) lease: Lease,
    /// The spots of the last request.
    pub(super) spots: Option<[Spot; 2]>,
    /// Whether an earlier request may have been carried out, or be still.
    pub(super) again: bool,
}

/// Where a claim was written.
pub(super) struct Written {
    pub(super) spot: Spot,
    /// What was seen of the line in the same step; nothing if the lease is alone in it.
    pub(super) seen: Option<Found>,
}

impl Inner {
    /// Finds a lease of etcd's for each claim. One that was made before, and not answered, keeps what it had.
    pub(super) async fn begin<'a>(
        &self,
        begun: Moment,
        claims: &[Numbered<'a>],
    ) -> (Vec<Attempt<'a>>, Vec<(usize, Answer)>) {
        let begin = async |&(at, claim): &Numbered<'a>| {
            let known = self.table.find(claim.key.id);
            let alive = known.filter(|known| !known.lease.left(self.table.now()).is_zero());
            if let Some(known) = alive {
                let spots = <[Spot; 2]>::try_from(known.tried).ok();
                return Ok(Attempt { at, claim, lease: known.lease, spots, again: true });
            }
            match self.pool.take(claim.ttl.get()).await {
                Ok(lease) => {
                    self.table.claimed(&claim.key, lease, begun);
                    Ok(Attempt { at, claim, lease, spots: None, again: false })
                }
                // Nothing is attached to a lease that was granted without our knowing.
                Err(error) => {
                    let kind = if error.kind == Kind::Refused { Kind::Refused } else { Kind::Unsent };
                    Err((at, Err(self.failed(CallError { kind, ..error }, "acquire"))))
                }
            }
        };
        let (mut attempts, mut failed) = (Vec::new(), Vec::new());
        for begun in join_all(claims.iter().map(begin)).await {
            match begun {
                Ok(attempt) => attempts.push(attempt),
                Err(answer) => failed.push(answer),
            }
        }
        (attempts, failed)
    }

    /// Sends claims in one transaction. An attempt whose request may arrive once more is marked.
    pub(super) async fn send(
        &self,
        attempts: &mut [Attempt<'_>],
        op: impl Fn(&Attempt<'_>) -> TxnOp,
    ) -> Result<Done, CallError> {
        for tries in 1.. {
            for attempt in &*attempts {
                let first = [Spot::new(attempt.claim.share, 0)];
                self.table.trying(attempt.claim.key.id, attempt.spots.as_ref().map_or(&first, |spots| spots));
            }
            let ops = attempts.iter().map(&op).collect();
            // Leases that have been spare for a while are given their whole life again meanwhile.
            let (sent, ()) = join(self.run_granting(ops), self.touch_stale(attempts)).await;
            match sent {
                Ok(answer) => {
                    for attempt in &mut *attempts {
                        attempt.again |= answer.repeated;
                        if !attempt.again {
                            self.table.answered(attempt.claim.key.id);
                        }
                    }
                    return Ok(answer.value);
                }
                // One of them has ended otherwise than by its time, and nobody says which.
                Err(error) if error.kind == Kind::NoLease && tries < TRIES => {
                    for attempt in &mut *attempts {
                        self.renew(attempt).await?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the tries are counted")
    }

    /// Gives leases that were touched a while ago their whole life again.
    async fn touch_stale(&self, attempts: &[Attempt<'_>]) {
        let now = self.table.now();
        let is_stale = |attempt: &&Attempt<'_>| {
            let lease = attempt.lease;
            !attempt.again && lease.left(now) + FRESH.min(lease.ttl / 100) < lease.ttl
        };
        let stale = attempts.iter().filter(is_stale);
        join_all(stale.map(async |attempt| {
            let mut lease = attempt.lease;
            if let Ok(true) = self.pool.touch(&mut lease).await {
                self.table.touched(attempt.claim.key.id, lease);
            }
        }))
        .await;
    }

    /// Gives a claim a new lease of etcd's, so that nothing comes of its earlier requests.
    pub(super) async fn renew(&self, attempt: &mut Attempt<'_>) -> Result<(), CallError> {
        let key = &attempt.claim.key;
        let asked = self.table.find(key.id).map_or(self.table.now(), |known| known.asked);
        attempt.lease = self.pool.grant(attempt.claim.ttl.get()).await?;
        (attempt.spots, attempt.again) = (None, false);
        self.table.claimed(key, attempt.lease, asked); // which revokes the one before
        Ok(())
    }

    pub(super) fn put(&self, attempt: &Attempt<'_>, state: fn(SystemTime) -> State) -> Put {
        let claim = attempt.claim;
        let record = Record {
            id: claim.key.id,
            state: state(SystemTime::now()),
            ttl: i64::try_from(attempt.lease.ttl.as_secs()).unwrap_or(i64::MAX),
            weight: claim.share.weight(),
            owner: claim.owner.to_record(),
            data: claim.data.clone(),
        };
        Put { front: self.keys.line(&claim.key.resource), lease: attempt.lease.id, record }
    }

    /// A lease as it was written.
    pub(super) fn written(&self, attempt: &Attempt<'_>, state: fn(SystemTime) -> State, spot: Spot, at: At) -> Entry {
        let Put { lease, record, .. } = self.put(attempt, state);
        let (created, written) = (at.revision, at.revision);
        Entry { spot, created, written, token: at.epoch.token(created), lease, record }
    }

    /// Looks for what an earlier request has written.
    pub(super) async fn search(&self, attempt: &Attempt<'_>) -> Result<Option<(Entry, At)>, CallError> {
        let claim = attempt.claim;
        let front = self.keys.line(&claim.key.resource);
        let spots = attempt.spots.into_iter().flatten().chain([Spot::new(claim.share, 0)]);
        let ops = spots.map(|spot| txn::lease(&self.keys.spot(&claim.key.resource, spot))).collect();
        for (at, outcome) in self.look(ops).await? {
            let found = outcome.found()?;
            let entry = found.kvs.first().and_then(|kv| Entry::read(&front, at.epoch, kv));
            if let Some(entry) = entry.filter(|entry| entry.is(claim.key.id)) {
                return Ok(Some((entry, at)));
            }
        }
        Ok(None)
    }

    /// What to say of claims that were not answered. They stay noted, so that they are made again with the same leases.
    pub(super) fn fail(&self, attempts: &[Attempt<'_>], error: &CallError) -> Vec<(usize, Answer)> {
        let fail = |attempt: &Attempt<'_>| {
            let id = attempt.claim.key.id;
            let kind = match error.kind {
                // None of it was carried out, nor will be.
                Kind::Unsent | Kind::Refused | Kind::NoLease if !attempt.again => {
                    self.table.answered(id);
                    self.table.ended(id);
                    if error.kind == Kind::NoLease { Kind::Unsent } else { error.kind }
                }
                // A server that runs out of space may have carried out the write that it denies.
                kind => kind.after_a_write(),
            };
            (attempt.at, Err(self.failed(CallError { kind, ..error.clone() }, "acquire")))
        };
        attempts.iter().map(fail).collect()
    }
}

/// What came of a [`txn::join`] or a [`txn::enter`]: where the claim was written, or what stands in its way.
pub(super) fn taken(spots: [Spot; 2], outcome: Outcome) -> Result<Result<Written, Found>, CallError> {
    let mut decided = outcome.decided()?;
    if !decided.met {
        return Ok(Err(decided.last()?.found()?));
    }
    for spot in spots {
        decided = decided.last()?.decided()?;
        if decided.met {
            return Ok(Ok(Written { spot, seen: Some(seen(decided)?) }));
        }
    }
    Ok(Err(seen(decided)?))
}

/// What came of a [`txn::be_first`].
pub(super) fn first(spot: Spot, outcome: Outcome) -> Result<Result<Written, Found>, CallError> {
    let decided = outcome.decided()?;
    if decided.met { Ok(Ok(Written { spot, seen: None })) } else { Ok(Err(seen(decided)?)) }
}

fn seen(decided: Decided) -> Result<Found, CallError> {
    if decided.outcomes.is_empty() { Err(foreign()) } else { decided.last()?.found() }
}
