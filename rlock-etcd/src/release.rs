//! Releases and breaks leases, and lets their shares rest.

use std::collections::HashMap;

use futures_util::future::{join_all, try_join_all};
use rlock_core::{BackendError, LeaseKey, Release, Released, ResourceName};

use crate::error::{CallError, Kind};
use crate::inner::Inner;
use crate::known::{Known, Phase};
use crate::line::{Entry, Line, Seat, Standing};
use crate::pool::Lease;
use crate::record::Record;
use crate::spot::Spot;
use crate::txn::{self, CHUNK, Conditional};

/// A way to end a lease.
enum End {
    /// Delete the key that is attached to this etcd lease, at one of the spots of a claim without an answer.
    Asked {
        spots: Vec<Spot>,
        lease: i64,
    },
    /// Delete the key of a lease as this client knows it.
    Known {
        seat: Seat,
        lease: i64,
    },
    Delete {
        spot: Spot,
        created: i64,
    },
    Rest {
        spot: Spot,
        created: i64,
        lease: i64,
        weight: u32,
    },
    /// There is no such lease.
    Absent,
}

/// Operations that end a lease. The lease existed if the conditions of one of them were met.
struct Ending {
    ops: Vec<Conditional>,
    /// The etcd lease that its rest ends with.
    resting: Option<Lease>,
}

impl Inner {
    pub(crate) async fn release_all(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        let known: Vec<_> = releases.iter().map(|release| self.own_leases.releasing(release.key.id)).collect();
        let seats = known.iter().zip(releases).map(|(known, release)| {
            // A release with a rest has read its line, so it knows that the lease is absent.
            known.as_ref().filter(|_| release.rest.is_zero()).and_then(Known::seat)
        });
        let seats: Vec<_> = seats.collect();
        let mut answers = self.release_known(releases, known).await;
        let is_absent = |at: &usize| matches!(answers[*at], Ok(Released::Absent));
        let absent: Vec<_> = (0..releases.len()).filter(is_absent).collect();
        let known = absent.iter().filter_map(|&at| Some((at, (&releases[at].key, seats[at]?))));
        let (numbers, leases): (Vec<_>, Vec<_>) = known.unzip();
        for (at, ended) in numbers.into_iter().zip(self.end_elsewhere(&leases).await) {
            answers[at] = ended.map_err(|error| self.failed(error, "release"));
        }
        // Until now the key may have been attached to an etcd lease, which the pool must not hand out before. After an
        // error `own_leases` keeps the lease for the next request.
        let ended = releases.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        join_all(ended.map(|(release, _)| self.own_leases.end(release.key.id))).await;
        answers
    }

    /// Releases leases as this client knows them. `own_leases` keeps them.
    async fn release_known(
        &self,
        releases: &[Release],
        known: Vec<Option<Known>>,
    ) -> Vec<Result<Released, BackendError>> {
        let ends = match self.ends(releases, known).await {
            Ok(ends) => ends,
            Err(error) => return self.fail_all(releases, error),
        };
        let endings = try_join_all(releases.iter().zip(ends).map(|(release, end)| self.ending(release, end))).await;
        let endings = match endings {
            Ok(endings) => endings,
            Err(error) => return self.fail_all(releases, error),
        };
        let mut parts: Vec<(usize, Vec<&Ending>)> = Vec::new();
        for ending in &endings {
            match parts.last_mut().filter(|(ops, _)| ops + ending.ops.len() <= CHUNK) {
                Some((ops, part)) => {
                    *ops += ending.ops.len();
                    part.push(ending);
                }
                None => parts.push((ending.ops.len(), vec![ending])),
            }
        }
        let done = join_all(parts.iter().map(|(_, part)| self.end(part))).await;
        let answers = done.into_iter().flatten();
        endings.iter().zip(answers).map(|(ending, answer)| self.released(ending, answer)).collect()
    }

    fn fail_all(&self, releases: &[Release], error: CallError) -> Vec<Result<Released, BackendError>> {
        let failure = self.failed(error, "release");
        releases.iter().map(|_| Err(failure.clone())).collect()
    }

    /// Finds out how to end each lease. This reads the whole line of a lease that this client does not know, or that is
    /// to rest.
    async fn ends(&self, releases: &[Release], known: Vec<Option<Known>>) -> Result<Vec<End>, CallError> {
        let known_ends: Vec<_> = releases.iter().zip(known).map(|(release, known)| known_end(release, known)).collect();
        let unknown = releases.iter().zip(&known_ends).filter(|(_, end)| end.is_none());
        let mut names: Vec<&ResourceName> = unknown.map(|(release, _)| &release.key.resource).collect();
        names.sort_unstable();
        names.dedup();
        let lines: HashMap<_, _> = names.iter().copied().zip(self.lines(&names).await?).collect();
        let all = releases.iter().zip(known_ends);
        Ok(all.map(|(release, end)| end.unwrap_or_else(|| end_in(&lines[&release.key.resource], release))).collect())
    }

    async fn ending(&self, release: &Release, end: End) -> Result<Ending, CallError> {
        let key = |spot| self.keys.spot(&release.key.resource, spot);
        let mut resting = None;
        let ops = match end {
            End::Absent => Vec::new(),
            End::Known { seat, lease } => vec![txn::delete_known(&key(seat.spot), seat.created, lease)],
            End::Delete { spot, created } => vec![txn::delete(&key(spot), created)],
            End::Asked { spots, lease } => {
                spots.into_iter().map(|spot| txn::delete_attached(&key(spot), lease)).collect()
            }
            End::Rest { spot, created, lease, weight } => {
                let rest = *resting.insert(self.pool.grant(release.rest).await?);
                let record = Record::resting(weight, i64::try_from(rest.ttl.as_secs()).unwrap_or(i64::MAX));
                vec![txn::rest(&key(spot), created, lease, rest.id, &record)]
            }
        };
        Ok(Ending { ops, resting })
    }

    /// Ends leases whose keys may be attached to other etcd leases than this client knows.
    async fn end_elsewhere(&self, leases: &[(&LeaseKey, Seat)]) -> Vec<Result<Released, CallError>> {
        let key = |key: &LeaseKey, seat: Seat| self.keys.spot(&key.resource, seat.spot);
        let reads = leases.iter().map(|&(lease, seat)| txn::lease(&key(lease, seat))).collect();
        let found = match self.look(reads).await {
            Ok(found) => found,
            Err(error) => return leases.iter().map(|_| Err(error.clone())).collect(),
        };
        let ended = leases.iter().copied().zip(found).map(async |((lease, seat), (at, found))| {
            let entry = found.lease(&self.keys.line(&lease.resource), at);
            if !entry.is_some_and(|entry| entry.is(lease.id) && Seat::of(&entry) == seat) {
                return Ok(Released::Absent);
            }
            let deleted = self.run_conditional(vec![txn::delete(&key(lease, seat), seat.created)]).await?;
            match (deleted.value.contains(&true), deleted.repeated) {
                (true, _) => Ok(Released::Released),
                (false, true) => Err(unsure()),
                (false, false) => Ok(Released::Absent),
            }
        });
        // One deletion that fails must not drop the others, which may have been sent.
        join_all(ended).await
    }

    /// Runs endings in one transaction. Returns for each whether the lease existed, and whether another copy of the
    /// request may have ended it.
    async fn end(&self, endings: &[&Ending]) -> Vec<Result<(bool, bool), CallError>> {
        let ops: Vec<_> = endings.iter().flat_map(|ending| ending.ops.iter().cloned()).collect();
        if ops.is_empty() {
            return endings.iter().map(|_| Ok((false, false))).collect();
        }
        let answer = match self.run_conditional(ops).await {
            Ok(answer) => answer,
            Err(error) => return endings.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut answers = answer.value.into_iter();
        let was_there = |ending: &&Ending| {
            let met: Vec<bool> = answers.by_ref().take(ending.ops.len()).collect();
            Ok((met.contains(&true), answer.repeated))
        };
        endings.iter().map(was_there).collect()
    }

    fn released(&self, ending: &Ending, answer: Result<(bool, bool), CallError>) -> Result<Released, BackendError> {
        let failed = |error| Err(self.failed(error, "release"));
        match answer {
            Ok((true, _)) => {
                if let Some(resting) = ending.resting {
                    self.pool.forget(resting.id);
                }
                Ok(Released::Released)
            }
            Ok((false, true)) => failed(unsure()),
            Ok((false, false)) => match ending.resting {
                Some(resting) => {
                    self.pool.revoke(resting.id);
                    failed(moved())
                }
                None => Ok(Released::Absent),
            },
            Err(error) => {
                // The rest may have begun.
                if let Some(resting) = ending.resting {
                    self.pool.forget(resting.id);
                }
                failed(error)
            }
        }
    }

    pub(crate) async fn break_all(&self, resource: &ResourceName) -> Result<u64, CallError> {
        let Some(line) = self.lines(&[resource]).await?.pop() else { return Ok(0) };
        let mut broken = 0;
        for part in line.holders().chunks(CHUNK) {
            let key = |entry: &Entry| self.keys.spot(resource, entry.spot);
            let ops = part.iter().map(|entry| txn::delete(&key(entry), entry.created)).collect();
            for (entry, is_deleted) in part.iter().zip(self.run_conditional(ops).await?.value) {
                broken += u64::from(is_deleted && !entry.record.is_resting());
            }
        }
        Ok(broken)
    }
}

/// The error of a release that was sent twice.
fn unsure() -> CallError {
    let reason = "the lease is gone, and an earlier request that got no answer may have released it";
    CallError::new(Kind::Unanswered, reason)
}

/// The error of a rest that has not begun, because its conditions were not met.
fn moved() -> CallError {
    let reason = "the lease ended or was attached to another etcd lease while it was released";
    CallError::new(Kind::Unsent, reason)
}

/// The way to end a lease of this client without reading its line.
fn known_end(release: &Release, known: Option<Known>) -> Option<End> {
    // A rest depends on whether the lease is held, and on its weight.
    let known = known.filter(|_| release.rest.is_zero())?;
    Some(match known.phase {
        Phase::Asked => End::Asked { spots: known.tried, lease: known.lease.id },
        Phase::Queued(seat, _) | Phase::Held(seat) => End::Known { seat, lease: known.lease.id },
    })
}

fn end_in(line: &Line, release: &Release) -> End {
    let Some((entry, standing)) = line.find(release.key.id) else { return End::Absent };
    let Entry { spot, created, lease, ref record, .. } = *entry;
    if standing == Standing::Held && !release.rest.is_zero() {
        return End::Rest { spot, created, lease, weight: record.weight };
    }
    End::Delete { spot, created }
}
