//! Claiming leases.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use futures_util::future::{join, join_all};
use rlock_core::{Acquired, BackendError, Claim, Grant, IfBusy, Moment, Place};

use crate::error::{CallError, Kind};
use crate::inner::Inner;
use crate::line::{Entry, Line, Standing};
use crate::pool::Lease;
use crate::record::{Record, Since};
use crate::txn::{self, At, CHUNK, Outcome, Put};

/// How often a claim is made anew with other leases of etcd's, because it turned out that there are none of those that it
/// was made with.
const TRIES: usize = 4;

/// How long ago a lease of etcd's may have been touched, if that is no more than a hundredth of its life, and count as having
/// all of that before it.
const FRESH: Duration = Duration::from_millis(100);

type Answer = Result<Acquired, BackendError>;

/// A claim, and the lease of etcd's that it is made with.
#[derive(Clone)]
struct Attempt<'a> {
    /// Where its answer belongs.
    at: usize,
    claim: &'a Claim,
    lease: Lease,
    /// Whether it was made before. If that one was carried out, this must change nothing.
    again: bool,
    /// The line that had room for it, for one that is not to wait.
    line: Option<Line>,
}

impl Inner {
    pub(crate) async fn claim(&self, claims: &[Claim]) -> Vec<Answer> {
        self.table.sweep();
        let begun = self.table.now();
        let answer = async |part: &Part<'_>| match part.if_busy {
            IfBusy::Queue => self.queue_up(begun, &part.claims).await,
            IfBusy::Refuse => self.enter_where_free(begun, &part.claims).await,
        };
        let parts = parts(claims);
        let mut answers: Vec<Option<Answer>> = claims.iter().map(|_| None).collect();
        for (at, answer) in join_all(parts.iter().map(answer)).await.into_iter().flatten() {
            answers[at] = Some(answer);
        }
        answers.into_iter().map(|answer| answer.expect("each claim is in one part, and answered")).collect()
    }

    /// Makes claims that may wait: each joins the line, and what it is there follows from those in front of it.
    async fn queue_up(&self, begun: Moment, claims: &[(usize, &Claim)]) -> Vec<(usize, Answer)> {
        let claims = claims.iter().map(|&(at, claim)| (at, claim, None)).collect();
        let (attempts, mut answers) = self.begin(begun, claims).await;
        let put = |attempt: &Attempt<'_>| txn::join(&self.put(attempt));
        match self.send(attempts, put).await {
            Ok(lines) => {
                for (attempt, line) in lines {
                    answers.push((attempt.at, self.judge(begun, &attempt, &line).await));
                }
            }
            Err((attempts, error)) => answers.extend(self.fail(&attempts, &error)),
        }
        answers
    }

    /// Makes claims that are not to wait. Whether there is room is looked at first, so that a refusal writes nothing.
    async fn enter_where_free(&self, begun: Moment, claims: &[(usize, &Claim)]) -> Vec<(usize, Answer)> {
        let resources: Vec<_> = claims.iter().map(|(_, claim)| &claim.key.resource).collect();
        let lines = match self.lines(&resources).await {
            Ok(lines) => lines,
            Err(mut error) => {
                if error.kind != Kind::Refused {
                    error.kind = Kind::Unsent; // it was only looked
                }
                let failed = |&(at, _): &(usize, &Claim)| (at, Err(self.failed(error.clone(), "acquire")));
                return claims.iter().map(failed).collect();
            }
        };
        let mut answers = Vec::with_capacity(claims.len());
        let mut free = Vec::new();
        for (&(at, claim), line) in claims.iter().zip(lines) {
            if line.find(claim.key.id).is_some() {
                answers.push((at, self.already_there(begun, claim, &line).await));
            } else if let Some(refusal) = refusal(claim, &line) {
                answers.push((at, refusal));
            } else {
                free.push((at, claim, Some(line)));
            }
        }
        let (mut attempts, failed) = self.begin(begun, free).await;
        answers.extend(failed);
        while !attempts.is_empty() {
            let put = |attempt: &Attempt<'_>| {
                let revision = attempt.line.as_ref().map_or(0, |line| line.revision);
                txn::enter(&self.put(attempt), revision)
            };
            match self.send(std::mem::take(&mut attempts), put).await {
                Ok(lines) => {
                    for (mut attempt, line) in lines {
                        if line.find(attempt.claim.key.id).is_some() {
                            answers.push((attempt.at, self.judge(begun, &attempt, &line).await));
                        } else if let Some(refusal) = refusal(attempt.claim, &line) {
                            self.table.refused(attempt.claim.key.id);
                            answers.push((attempt.at, refusal));
                        } else {
                            // Others came in between, and there is room still.
                            attempt.line = Some(line);
                            attempts.push(attempt);
                        }
                    }
                }
                Err((attempts, error)) => answers.extend(self.fail(&attempts, &error)),
            }
        }
        answers
    }

    /// Finds a lease of etcd's for each claim. One that was made before, and not answered, keeps the one it had.
    async fn begin<'a>(
        &self,
        begun: Moment,
        claims: Vec<(usize, &'a Claim, Option<Line>)>,
    ) -> (Vec<Attempt<'a>>, Vec<(usize, Answer)>) {
        let begin = async |(at, claim, line): (usize, &'a Claim, Option<Line>)| {
            if let Some(lease) = self.table.asked_again(claim.key.id) {
                return Ok(Attempt { at, claim, lease, again: true, line });
            }
            match self.pool.take(claim.ttl.get()).await {
                Ok(lease) => {
                    self.table.claimed(&claim.key, lease, begun);
                    Ok(Attempt { at, claim, lease, again: false, line })
                }
                // Nothing is attached to a lease that was granted without our knowing.
                Err(error) => {
                    let kind = if error.kind == Kind::Refused { Kind::Refused } else { Kind::Unsent };
                    Err((at, Err(self.failed(CallError { kind, ..error }, "acquire"))))
                }
            }
        };
        let (mut attempts, mut failed) = (Vec::new(), Vec::new());
        for begun in join_all(claims.into_iter().map(begin)).await {
            match begun {
                Ok(attempt) => attempts.push(attempt),
                Err(answer) => failed.push(answer),
            }
        }
        (attempts, failed)
    }

    /// Sends claims in one transaction, and answers with the lines that they found or made.
    async fn send<'a>(
        &self,
        mut attempts: Vec<Attempt<'a>>,
        put: impl Fn(&Attempt<'a>) -> etcd_client::TxnOp,
    ) -> Result<Vec<(Attempt<'a>, Line)>, (Vec<Attempt<'a>>, CallError)> {
        if attempts.is_empty() {
            return Ok(Vec::new());
        }
        for tries in 1.. {
            let ops = attempts.iter().map(&put).collect();
            // Leases that have been spare for a while are given their whole life again meanwhile.
            let (sent, ()) = join(self.run_granting(ops), self.touch(&mut attempts.clone())).await;
            match sent {
                Ok(answer) => {
                    if answer.repeated {
                        attempts.iter().for_each(|attempt| self.table.taint(attempt.claim.key.id));
                    }
                    let at = answer.value.at;
                    let line = |(attempt, outcome): (&Attempt<'a>, &Outcome)| match outcome {
                        Outcome::Written => Ok(self.joined(attempt, at)),
                        outcome => self.line(at, outcome),
                    };
                    let lines: Result<Vec<_>, _> = attempts.iter().zip(&answer.value.answers).map(line).collect();
                    return match lines {
                        Ok(lines) => Ok(attempts.into_iter().zip(lines).collect()),
                        Err(error) => Err((attempts, error)),
                    };
                }
                Err(error) if error.kind == Kind::NoLease && tries < TRIES => {
                    // One of them has ended otherwise than by its time, and nobody says which.
                    if let Err(error) = self.renew(&mut attempts).await {
                        return Err((attempts, error));
                    }
                }
                Err(error) => return Err((attempts, error)),
            }
        }
        unreachable!("the tries are counted")
    }

    /// The line as it is once a claim has found room in it.
    fn joined(&self, attempt: &Attempt<'_>, at: At) -> Line {
        let Put { lease, granted: record, .. } = self.put(attempt);
        let (created, written) = (at.revision, at.revision);
        let entry = Entry { id: attempt.claim.key.id, created, written, token: at.epoch.token(created), lease, record };
        let before = attempt.line.as_ref().map_or_else(Vec::new, |line| line.leases.clone());
        Line::new(at.revision, before.into_iter().chain([entry]).collect())
    }

    /// Gives leases that were touched a while ago their whole life again.
    async fn touch(&self, attempts: &mut [Attempt<'_>]) {
        let now = self.table.now();
        let is_stale = |attempt: &&mut Attempt<'_>| {
            let lease = attempt.lease;
            !attempt.again && lease.left(now) + FRESH.min(lease.ttl / 100) < lease.ttl
        };
        let stale = attempts.iter_mut().filter(is_stale);
        join_all(stale.map(async |attempt| {
            if let Ok(true) = self.pool.touch(&mut attempt.lease).await {
                self.table.touched(attempt.claim.key.id, attempt.lease);
            }
        }))
        .await;
    }

    /// Gives every claim a new lease of etcd's.
    async fn renew(&self, attempts: &mut [Attempt<'_>]) -> Result<(), CallError> {
        let granted = join_all(attempts.iter().map(|attempt| self.pool.grant(attempt.claim.ttl.get()))).await;
        for (attempt, lease) in attempts.iter_mut().zip(granted) {
            attempt.lease = lease?;
            self.table.claimed(&attempt.claim.key, attempt.lease, attempt.lease.touched);
        }
        Ok(())
    }

    fn put(&self, attempt: &Attempt<'_>) -> Put {
        let (claim, now) = (attempt.claim, SystemTime::now());
        let record = |since| Record {
            share: claim.share,
            since,
            ttl: i64::try_from(attempt.lease.ttl.as_secs()).unwrap_or(i64::MAX),
            owner: claim.owner.to_record(),
        };
        Put {
            line: self.keys.line(&claim.key.resource),
            key: self.keys.lease(&claim.key),
            lease: attempt.lease.id,
            granted: record(Since::Granted(now)),
            asked: record(Since::Asked(now)),
        }
    }

    /// What the line that a claim has led to says of it.
    async fn judge(&self, begun: Moment, attempt: &Attempt<'_>, line: &Line) -> Answer {
        let claim = attempt.claim;
        match line.find(claim.key.id) {
            Some(_) => self.already_there(begun, claim, line).await,
            None => {
                self.table.refused(claim.key.id);
                refusal(claim, line).unwrap_or_else(|| {
                    // It was there, and ended at once.
                    let reason = "the lease ended while it was asked for: its TTL is too short for these servers";
                    Err(self.failed(CallError::new(Kind::Unsent, reason), "acquire"))
                })
            }
        }
    }

    /// What the line says of a lease that is in it.
    async fn already_there(&self, begun: Moment, claim: &Claim, line: &Line) -> Answer {
        let id = claim.key.id;
        let Some((entry, standing)) = line.find(id) else { unreachable!("the caller has found it") };
        let known = self.table.find(id);
        if known.as_ref().is_some_and(|known| known.lease.id != entry.lease) {
            // Another client's, whose lease of etcd's is not ours to give to others.
            if let Some(ours) = self.table.forget(id) {
                self.pool.give_back(ours.lease);
            }
        } else {
            self.table.seen(id, line);
        }
        match standing {
            Standing::Queued(_) => match self.fill(claim).await {
                Ok(()) => Ok(Acquired::Queued(self.place(line, entry, standing))),
                Err(error) => Err(self.failed(error, "acquire")),
            },
            Standing::Held => {
                let ttl = match self.table.find(id) {
                    Some(known) => known.lease.left(begun),
                    None => match self.life(entry.lease).await {
                        Ok(life) => life.left,
                        Err(error) => return Err(self.failed(error, "acquire")),
                    },
                };
                Ok(Acquired::Held(Grant { token: entry.token, ttl }))
            }
        }
    }

    /// Makes sure that a queued lease has its whole life from when it was claimed: what is said of it does not tell how much
    /// it has. It may be attached to a lease of etcd's that was spare for a while, and was not touched because that failed.
    async fn fill(&self, claim: &Claim) -> Result<(), CallError> {
        let Some(known) = self.table.find(claim.key.id) else { return Ok(()) };
        let mut lease = known.lease;
        if lease.touched.after(lease.ttl) >= known.asked.after(claim.ttl.get()) {
            return Ok(());
        }
        if !self.pool.touch(&mut lease).await? {
            let reason = "a server does not know the lease that the claim was made with; it may be behind the others";
            return Err(CallError::new(Kind::Unanswered, reason));
        }
        self.table.touched(claim.key.id, lease);
        Ok(())
    }

    pub(crate) fn place(&self, line: &Line, entry: &Entry, standing: Standing) -> Place {
        let ahead = if let Standing::Queued(ahead) = standing { ahead as u64 } else { 0 };
        let lives = |blocker: &Entry| Duration::from_secs(u64::try_from(blocker.record.ttl).unwrap_or(0));
        // The watch tells of it, whenever it comes to that; this is the latest.
        let ask_again = line.blockers(entry.id).iter().map(lives).max().unwrap_or_default();
        Place { ahead, ask_again }
    }

    /// What to say of claims that were not answered. They stay noted, so that they are made again with the same leases.
    fn fail(&self, attempts: &[Attempt<'_>], error: &CallError) -> Vec<(usize, Answer)> {
        let fail = |attempt: &Attempt<'_>| {
            let id = attempt.claim.key.id;
            match error.kind {
                // None of it was carried out, nor will be.
                Kind::Unsent | Kind::Denied | Kind::Refused | Kind::NoLease => self.table.refused(id),
                Kind::Unanswered | Kind::Broken | Kind::LeaseExists => self.table.taint(id),
            }
            let kind = if error.kind == Kind::NoLease { Kind::Unsent } else { error.kind };
            (attempt.at, Err(self.failed(CallError { kind, ..error.clone() }, "acquire")))
        };
        attempts.iter().map(fail).collect()
    }
}

/// Claims that go together: they are of one kind, and on different resources, because what is created together has no
/// order.
struct Part<'a> {
    if_busy: IfBusy,
    claims: Vec<(usize, &'a Claim)>,
}

fn parts(claims: &[Claim]) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut parts_of = HashMap::new();
    for (at, claim) in claims.iter().enumerate() {
        let first: &mut usize = parts_of.entry(&claim.key.resource).or_default();
        let fits = |part: &&mut Part<'_>| part.if_busy == claim.if_busy && part.claims.len() < CHUNK;
        let free = (*first..parts.len()).find(|&number| fits(&&mut parts[number]));
        let number = free.unwrap_or(parts.len());
        *first = number + 1;
        if number == parts.len() {
            parts.push(Part { if_busy: claim.if_busy, claims: Vec::new() });
        }
        parts[number].claims.push((at, claim));
    }
    parts
}

/// Why a claim that is not to wait cannot be granted.
fn refusal(claim: &Claim, line: &Line) -> Option<Answer> {
    let asked = claim.share.capacity();
    if let Some(actual) = line.capacity().filter(|&actual| actual != asked) {
        let resource = claim.key.resource.clone();
        return Some(Err(BackendError::CapacityMismatch { resource, asked, actual }));
    }
    (!line.has_room_for(claim.share.weight())).then_some(Ok(Acquired::Busy))
}
