//! Claims in flight: the etcd lease of each claim, and the requests that carry them.

use std::time::{Duration, SystemTime};

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
use crate::txn::{self, At, Conditional, Put};

/// How many times claims are sent with new etcd leases after the servers no longer know the ones that they were made
/// with.
const TRIES: usize = 4;

/// An etcd lease counts as fresh, with its full TTL ahead, for this long after a keep-alive, and for at most a
/// hundredth of its TTL.
const FRESH: Duration = Duration::from_millis(100);

/// A claim, and the etcd lease that it is made with.
#[derive(Clone)]
pub(super) struct Attempt<'a> {
    /// The index of its answer.
    pub(super) at: usize,
    pub(super) claim: &'a Claim,
    pub(super) lease: Lease,
    /// The spots of the last request.
    pub(super) spots: Option<[Spot; 2]>,
    /// Whether an earlier request may have been carried out, or may still be.
    pub(super) again: bool,
}

/// The spot of a claim that was written.
pub(super) struct Written {
    pub(super) spot: Spot,
    /// The part of the line that the same transaction read; nothing if the lease is alone in it.
    pub(super) seen: Option<Found>,
}

impl Inner {
    /// Finds an etcd lease for each claim. A claim that was sent before keeps its etcd lease, unless that has expired or
    /// an attempt to end it has failed: the claim ends it then.
    pub(super) async fn begin<'a>(
        &self,
        begun: Moment,
        claims: &[Numbered<'a>],
    ) -> (Vec<Attempt<'a>>, Vec<(usize, Answer)>) {
        let begin = async |&(at, claim): &Numbered<'a>| {
            if let Some(known) = self.own_leases.find(claim.key.id) {
                if !known.lease.left(self.own_leases.now()).is_zero() && !self.pool.is_ending(known.lease.id) {
                    let again = !known.tried.is_empty();
                    let spots = <[Spot; 2]>::try_from(known.tried).ok();
                    return Ok(Attempt { at, claim, lease: known.lease, spots, again });
                }
                // The servers may keep it longer, and an earlier request may still be carried out.
                if let Err(error) = self.pool.end(known.lease.id).await {
                    let kind = error.kind.after_a_write();
                    return Err((at, Err(self.failed(CallError { kind, ..error }, "acquire"))));
                }
            }
            match self.pool.take(claim.ttl.get()).await {
                Ok(lease) => {
                    self.own_leases.claimed(&claim.key, lease, begun);
                    Ok(Attempt { at, claim, lease, spots: None, again: false })
                }
                // If etcd granted a lease although the request failed, no key is attached to it.
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

    /// Sends claims in one transaction, and marks each attempt whose request may arrive again.
    pub(super) async fn send(
        &self,
        attempts: &mut [Attempt<'_>],
        op: impl Fn(&Attempt<'_>) -> Conditional,
    ) -> Result<Done, CallError> {
        for tries in 1.. {
            for attempt in &*attempts {
                let first = [Spot::new(attempt.claim.share, 0)];
                self.own_leases.trying(attempt.claim.key.id, attempt.spots.as_ref().map_or(&first, |spots| spots));
            }
            let ops = attempts.iter().map(&op).collect();
            // Meanwhile, reset etcd leases that were spare for a while to their full TTL.
            let (sent, ()) = join(self.run_granting(ops), self.touch_stale(attempts)).await;
            match sent {
                Ok(answer) => {
                    for attempt in &mut *attempts {
                        attempt.again |= answer.repeated;
                        if !attempt.again {
                            self.own_leases.answered(attempt.claim.key.id);
                        }
                    }
                    return Ok(answer.value);
                }
                // One of the etcd leases ended before its time, and the error does not say which. A copy of the request
                // may have been carried out before that.
                Err(error) if error.kind == Kind::NoLease => {
                    attempts.iter_mut().for_each(|attempt| attempt.again = true);
                    if tries == TRIES {
                        return Err(error);
                    }
                    let renewed = join_all(attempts.iter_mut().map(|attempt| self.renew(attempt))).await;
                    renewed.into_iter().collect::<Result<(), CallError>>()?;
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the tries are counted")
    }

    /// Resets etcd leases whose last keep-alive is not fresh to their full TTL.
    async fn touch_stale(&self, attempts: &[Attempt<'_>]) {
        let now = self.own_leases.now();
        let is_stale = |attempt: &&Attempt<'_>| {
            let lease = attempt.lease;
            !attempt.again && lease.left(now) + FRESH.min(lease.ttl / 100) < lease.ttl
        };
        let stale = attempts.iter().filter(is_stale);
        join_all(stale.map(async |attempt| {
            let mut lease = attempt.lease;
            if let Ok(true) = self.pool.touch(&mut lease).await {
                self.own_leases.touched(attempt.claim.key.id, lease);
            }
        }))
        .await;
    }

    /// Gives a claim a new etcd lease, after the end of the previous one: its earlier requests have no effect then. If
    /// one of them still wrote a key, the claim could find that key, and be held by a lease that is about to end.
    pub(super) async fn renew(&self, attempt: &mut Attempt<'_>) -> Result<(), CallError> {
        let key = &attempt.claim.key;
        let asked = self.own_leases.find(key.id).map_or(self.own_leases.now(), |known| known.asked);
        self.pool.end(attempt.lease.id).await?;
        attempt.lease = self.pool.grant(attempt.claim.ttl.get()).await?;
        (attempt.spots, attempt.again) = (None, false);
        self.own_leases.claimed(key, attempt.lease, asked);
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

    /// The lease as the transaction wrote it.
    pub(super) fn written(&self, attempt: &Attempt<'_>, state: fn(SystemTime) -> State, spot: Spot, at: At) -> Entry {
        let Put { lease, record, .. } = self.put(attempt, state);
        let (created, written) = (at.revision, at.revision);
        Entry { spot, created, written, token: at.epoch.token(created), lease, record }
    }

    /// Looks for a lease that an earlier request has written.
    pub(super) async fn search(&self, attempt: &Attempt<'_>) -> Result<Option<(Entry, At)>, CallError> {
        let claim = attempt.claim;
        let front = self.keys.line(&claim.key.resource);
        let spots = attempt.spots.into_iter().flatten().chain([Spot::new(claim.share, 0)]);
        let ops = spots.map(|spot| txn::lease(&self.keys.spot(&claim.key.resource, spot))).collect();
        for (at, found) in self.look(ops).await? {
            if let Some(entry) = found.lease(&front, at).filter(|entry| entry.is(claim.key.id)) {
                return Ok(Some((entry, at)));
            }
        }
        Ok(None)
    }

    /// Answers claims whose request failed. `own_leases` keeps their leases, so that a repeated claim uses the same etcd
    /// lease.
    pub(super) fn fail(&self, attempts: &[Attempt<'_>], error: &CallError) -> Vec<(usize, Answer)> {
        let fail = |attempt: &Attempt<'_>| {
            let id = attempt.claim.key.id;
            let kind = if attempt.again || error.kind.may_have_written() {
                error.kind.after_a_write()
            } else {
                self.own_leases.answered(id);
                self.own_leases.ended(id);
                error.kind
            };
            (attempt.at, Err(self.failed(CallError { kind, ..error.clone() }, "acquire")))
        };
        attempts.iter().map(fail).collect()
    }
}

/// Reads the outcome of a [`txn::join`] or a [`txn::enter`]: the spot that was written, or the line that prevented it.
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

/// Reads the outcome of a [`txn::be_first`].
pub(super) fn first(spot: Spot, outcome: Outcome) -> Result<Result<Written, Found>, CallError> {
    let decided = outcome.decided()?;
    if decided.met { Ok(Ok(Written { spot, seen: None })) } else { Ok(Err(seen(decided)?)) }
}

fn seen(decided: Decided) -> Result<Found, CallError> {
    if decided.outcomes.is_empty() { Err(foreign()) } else { decided.last()?.found() }
}
