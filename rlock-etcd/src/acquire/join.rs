//! Claims that may wait. Each joins its line, and the leases in front of it decide whether it is held.

use futures_util::future::join_all;
use rlock_core::{BackendError, Claim, Moment};

use super::attempt::{Attempt, first, taken};
use super::{Answer, Crowded, Numbered};
use crate::answer::Found;
use crate::crowds::two_spots;
use crate::error::{CallError, Kind};
use crate::inner::Inner;
use crate::line::{Entry, Line, Seat, Standing};
use crate::record::State;
use crate::sighting::Sighting;
use crate::spot::Spot;
use crate::txn::{self, At};

/// How many times a claim looks for a free spot. Each time it reads how many leases there are.
const ROUNDS: usize = 16;

impl Inner {
    pub(super) async fn join(
        &self,
        begun: Moment,
        claims: &[Numbered<'_>],
        crowds: &Crowded<'_>,
    ) -> Vec<(usize, Answer)> {
        let (mut attempts, mut answers) = self.begin(begun, claims).await;
        for attempt in attempts.iter_mut().filter(|attempt| !attempt.again) {
            let claims = crowds[&attempt.claim.key.resource];
            let crowd = self.crowds.of(&attempt.claim.key.resource).or((claims > 1).then_some(claims));
            attempt.spots = crowd.map(|leases| two_spots(attempt.claim.share, leases.max(claims)));
        }
        for _ in 0..ROUNDS {
            if attempts.is_empty() {
                return answers;
            }
            let sent = self.send(&mut attempts, |attempt| match attempt.spots {
                Some(spots) => txn::join(&self.put(attempt, State::Asked), spots),
                None => txn::be_first(&self.put(attempt, State::Granted), Spot::new(attempt.claim.share, 0)),
            });
            let done = match sent.await {
                Ok(done) => done,
                Err(error) => {
                    answers.extend(self.fail(&attempts, &error));
                    return answers;
                }
            };
            let (mut placed, mut missed, mut alone) = (Vec::new(), Vec::new(), Vec::new());
            for (attempt, outcome) in std::mem::take(&mut attempts).into_iter().zip(done.outcomes) {
                let of_spots = match attempt.spots {
                    Some(spots) => taken(spots, outcome),
                    None => first(Spot::new(attempt.claim.share, 0), outcome),
                };
                match of_spots {
                    Ok(Ok(written)) => match written.seen {
                        Some(seen) => {
                            let entry = self.written(&attempt, State::Asked, written.spot, done.at);
                            placed.push((attempt.at, attempt.claim, entry, done.at, seen));
                        }
                        None => {
                            let entry = self.written(&attempt, State::Granted, written.spot, done.at);
                            alone.push((attempt.at, attempt.claim, held(entry, done.at)));
                        }
                    },
                    Ok(Err(seen)) => {
                        if !attempt.again {
                            self.own_leases.missed(attempt.claim.key.id);
                        }
                        missed.push((attempt, seen));
                    }
                    Err(error) => answers.extend(self.fail(&[attempt], &error)),
                }
            }
            let missed = missed.into_iter().map(async |(attempt, seen)| {
                let claims = crowds[&attempt.claim.key.resource];
                let next = self.miss(attempt.clone(), seen, done.at, claims).await;
                (attempt, next)
            });
            for (attempt, next) in join_all(missed).await {
                let at = attempt.at;
                match next {
                    Ok(Next::Again(attempt)) => attempts.push(attempt),
                    Ok(Next::Found(claim, entry, when)) => {
                        placed.push((at, claim, entry, when, Found { kvs: Vec::new(), count: u64::MAX }));
                    }
                    Ok(Next::Refused(error)) => answers.push((at, Err(error))),
                    Err(error) => answers.extend(self.fail(&[attempt], &error)),
                }
            }
            answers.extend(self.answer_all(begun, alone).await);
            answers.extend(self.answer_placed(begun, placed).await);
        }
        let error = CallError::new(Kind::Unsent, "other clients took each spot in the line first: try again");
        answers.extend(self.fail(&attempts, &error));
        answers
    }

    /// Decides how to go on after a request that wrote nothing.
    async fn miss<'a>(
        &self,
        mut attempt: Attempt<'a>,
        seen: Found,
        at: At,
        claims: u64,
    ) -> Result<Next<'a>, CallError> {
        let claim = attempt.claim;
        if attempt.again
            && let Some((entry, when)) = self.search(&attempt).await?
        {
            return Ok(Next::Found(claim, entry, when));
        }
        let line = Line::read(&self.keys.line(&claim.key.resource), at, &seen.kvs);
        if let Some((theirs, _)) = line.find(claim.key.id) {
            // It belongs to another client, which has claimed with this id before.
            self.own_leases.end(claim.key.id).await;
            return Ok(Next::Found(claim, theirs.clone(), at));
        }
        if let Some(mismatch) = mismatch(claim, &line) {
            self.own_leases.end(claim.key.id).await;
            return Ok(Next::Refused(mismatch));
        }
        if attempt.again {
            self.renew(&mut attempt).await?;
        }
        let leases = self.length(claim, &seen).await?;
        self.crowds.note(&claim.key.resource, leases);
        attempt.spots = Some(two_spots(claim.share, leases.max(claims)));
        Ok(Next::Again(attempt))
    }

    /// The number of leases in a line that was read in part. etcd 3.5.0 and 3.5.1 count only the keys that they read.
    async fn length(&self, claim: &Claim, seen: &Found) -> Result<u64, CallError> {
        if seen.kvs.len() as u64 == seen.count {
            return Ok(seen.count);
        }
        self.count(&claim.key.resource).await
    }
}

/// The next step after a request that wrote nothing.
enum Next<'a> {
    /// Send the claim again, for other spots.
    Again(Attempt<'a>),
    /// An earlier request has written the lease.
    Found(&'a Claim, Entry, At),
    Refused(BackendError),
}

/// The sighting of a lease that is known to be held.
pub(super) fn held(entry: Entry, at: At) -> Sighting {
    Sighting { at, seat: Some(Seat::of(&entry)), found: Some((entry, Standing::Held)), others: false }
}

pub(super) fn mismatch(claim: &Claim, line: &Line) -> Option<BackendError> {
    let asked = claim.share.capacity();
    let actual = line.capacity().filter(|&actual| actual != asked)?;
    Some(BackendError::CapacityMismatch { resource: claim.key.resource.clone(), asked, actual })
}
