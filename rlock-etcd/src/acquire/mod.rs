//! Claims leases.

mod attempt;
mod enter;
mod join;

use std::collections::HashMap;

use futures_util::future::{join, join_all, try_join_all};
use rlock_core::{Acquired, BackendError, Claim, Grant, IfBusy, Moment, ResourceName};

use crate::answer::Found;
use crate::error::{CallError, Kind};
use crate::inner::Inner;
use crate::known::Known;
use crate::line::{Entry, Line, Standing};
use crate::sighting::{Question, Sighting};
use crate::txn::{At, CHUNK};

/// The answer to one claim.
type Answer = Result<Acquired, BackendError>;

/// A claim, and the index of its answer.
type Numbered<'a> = (usize, &'a Claim);

/// The number of claims on each resource in one batch.
type Crowded<'a> = HashMap<&'a ResourceName, u64>;

impl Inner {
    pub(crate) async fn claim(&self, claims: &[Claim]) -> Vec<Answer> {
        self.own_leases.sweep();
        let begun = self.own_leases.now();
        let mut answers: Vec<Option<Answer>> = claims.iter().map(|_| None).collect();
        let all: Vec<_> = claims.iter().enumerate().collect();
        let (known, new): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, claim)| self.is_answered(claim));
        let (repeated, new) = match known.is_empty() {
            true => (Vec::new(), new),
            false => self.claim_again(begun, known, new).await,
        };
        let crowds = crowds(&new);
        let parts = parts(&new);
        let claimed = join_all(parts.iter().map(|part| self.claim_part(begun, part, &crowds))).await;
        for (at, answer) in repeated.into_iter().chain(claimed.into_iter().flatten()) {
            answers[at] = Some(answer);
        }
        answers.into_iter().map(|answer| answer.expect("each claim is in one part, and answered")).collect()
    }

    async fn claim_part(&self, begun: Moment, part: &Part<'_>, crowds: &Crowded<'_>) -> Vec<(usize, Answer)> {
        match part.if_busy {
            IfBusy::Queue => self.join(begun, &part.claims, crowds).await,
            IfBusy::Refuse => self.enter(begun, &part.claims).await,
        }
    }

    /// Whether a claim with this id was answered, so that its key is known.
    fn is_answered(&self, claim: &Claim) -> bool {
        self.own_leases.find(claim.key.id).is_some_and(|known| known.seat().is_some())
    }

    /// Answers claims that were answered before, and adds those whose leases have ended to `new`.
    async fn claim_again<'a>(
        &self,
        begun: Moment,
        again: Vec<Numbered<'a>>,
        mut new: Vec<Numbered<'a>>,
    ) -> (Vec<(usize, Answer)>, Vec<Numbered<'a>>) {
        let known: Vec<_> = again.iter().map(|(_, claim)| self.own_leases.find(claim.key.id)).collect();
        let asked = again.into_iter().zip(&known);
        let asked = asked.map(|(numbered, known)| (numbered, known.as_ref().and_then(Known::question)));
        let (mut claims, mut questions) = (Vec::new(), Vec::new());
        for (numbered, question) in asked {
            match question {
                Some(question) => {
                    claims.push(numbered);
                    questions.push(question);
                }
                None => new.push(numbered),
            }
        }
        let sightings = match self.survey(&questions).await {
            Ok(sightings) => sightings,
            Err(error) => {
                let failed = |(at, _): Numbered<'a>| (at, Err(self.failed(error.clone(), "acquire")));
                return (claims.into_iter().map(failed).collect(), new);
            }
        };
        let (mut found, mut ends) = (Vec::new(), Vec::new());
        for ((at, claim), sighting) in claims.into_iter().zip(sightings) {
            match sighting.found {
                Some(_) => found.push((at, claim, sighting)),
                None => {
                    ends.push(self.own_leases.end(claim.key.id));
                    new.push((at, claim));
                }
            }
        }
        let (answers, _ended) = join(self.answer_all(begun, found), join_all(ends)).await;
        (answers, new)
    }

    /// Answers claims whose leases exist.
    async fn answer_all(&self, begun: Moment, found: Vec<(usize, &Claim, Sighting)>) -> Vec<(usize, Answer)> {
        let answer = async |(at, claim, sighting): (usize, &Claim, Sighting)| {
            let answer = self.answer(begun, claim, sighting).await;
            (at, answer.map_err(|error| self.failed(error, "acquire")))
        };
        join_all(found.into_iter().map(answer)).await
    }

    async fn answer(&self, begun: Moment, claim: &Claim, sighting: Sighting) -> Result<Acquired, CallError> {
        let id = claim.key.id;
        let Some((entry, standing)) = &sighting.found else {
            self.own_leases.end(id).await;
            let reason = "the lease ended during its claim: its TTL is too short for these servers";
            return Err(CallError::new(Kind::Unsent, reason));
        };
        if self.pool.is_ending(entry.lease) {
            self.pool.revoke_in_background(entry.lease); // the last attempt may have failed
            let reason = "an earlier request of this claim was carried out late, and its etcd lease is being ended";
            return Err(CallError::new(Kind::Unanswered, reason));
        }
        self.own_leases.seen(id, &sighting);
        let known = self.own_leases.find(id).filter(|known| known.is(entry));
        match standing {
            Standing::Queued(wait) => {
                if let Some(known) = known {
                    self.fill(claim, known).await?;
                }
                Ok(Acquired::Queued(wait.place()))
            }
            Standing::Held => {
                let ttl = match known {
                    Some(known) => known.lease.left(begun),
                    None => self.pool.life(entry.lease).await?.left,
                };
                Ok(Acquired::Held(Grant { token: entry.token, ttl }))
            }
        }
    }

    /// Makes sure that a queued lease has its full TTL from the time of its claim, because the answer does not say how
    /// much it has left. Its etcd lease may have been spare for a while, and the keep-alive that was to reset it may
    /// have failed.
    async fn fill(&self, claim: &Claim, known: Known) -> Result<(), CallError> {
        let mut lease = known.lease;
        if lease.expires() >= known.asked.after(claim.ttl.get()) {
            return Ok(());
        }
        if !self.pool.touch(&mut lease).await? {
            let reason = "a server does not know the lease that the claim was made with; it may be behind the others";
            return Err(CallError::new(Kind::Unanswered, reason));
        }
        self.own_leases.touched(claim.key.id, lease);
        Ok(())
    }

    /// The standing of leases that were just written, from the part of each line that the write returned.
    async fn stand(&self, placed: Vec<(&Claim, Entry, At, Found)>) -> Result<Vec<Sighting>, CallError> {
        let mut sightings = Vec::with_capacity(placed.len());
        let mut questions = Vec::new();
        for (number, (claim, entry, at, seen)) in placed.into_iter().enumerate() {
            let resource = &claim.key.resource;
            if seen.kvs.len() as u64 == seen.count {
                self.crowds.note(resource, seen.count);
                let line = Line::read(&self.keys.line(resource), at, &seen.kvs);
                sightings.push((number, Sighting::of(&line, claim.key.id)));
            } else {
                let Entry { spot, created, .. } = entry;
                questions.push((number, Question { resource, id: claim.key.id, spot, created }));
            }
        }
        let (numbers, questions): (Vec<_>, Vec<_>) = questions.into_iter().unzip();
        sightings.extend(numbers.into_iter().zip(self.survey(&questions).await?));
        sightings.sort_unstable_by_key(|(number, _)| *number);
        Ok(sightings.into_iter().map(|(_, sighting)| sighting).collect())
    }

    /// Deletes a lease whose id another client has claimed before: the other client's lease counts.
    async fn give_way(&self, claim: &Claim, ours: &Entry, sighting: &Sighting) -> Result<(), CallError> {
        let is_ours = |(entry, _): &(Entry, Standing)| entry.created == ours.created;
        if sighting.found.as_ref().is_none_or(is_ours) {
            return Ok(());
        }
        let key = self.keys.spot(&claim.key.resource, ours.spot);
        self.run_conditional(vec![crate::txn::delete(&key, ours.created)]).await?;
        self.own_leases.end(claim.key.id).await;
        Ok(())
    }

    /// Answers claims whose leases were just written.
    async fn answer_placed(
        &self,
        begun: Moment,
        placed: Vec<(usize, &Claim, Entry, At, Found)>,
    ) -> Vec<(usize, Answer)> {
        let numbers: Vec<_> = placed.iter().map(|(at, claim, entry, ..)| (*at, *claim, entry.clone())).collect();
        let seen = async {
            let all = placed.into_iter().map(|(_, claim, entry, at, seen)| (claim, entry, at, seen)).collect();
            let sightings = self.stand(all).await?;
            let ways = numbers.iter().zip(&sightings).map(|((_, claim, entry), it)| self.give_way(claim, entry, it));
            try_join_all(ways).await?;
            Ok(sightings)
        };
        match seen.await {
            Ok(sightings) => {
                let found = numbers.into_iter().zip(sightings).map(|((at, claim, _), it)| (at, claim, it)).collect();
                self.answer_all(begun, found).await
            }
            // The leases exist; the next request finds out whether they are held.
            Err(error) => {
                let error: CallError = error;
                let error = CallError { kind: error.kind.after_a_write(), ..error };
                numbers.iter().map(|(at, ..)| (*at, Err(self.failed(error.clone(), "acquire")))).collect()
            }
        }
    }
}

fn crowds<'a>(claims: &[Numbered<'a>]) -> Crowded<'a> {
    let mut crowds = HashMap::new();
    for (_, claim) in claims {
        *crowds.entry(&claim.key.resource).or_default() += 1;
    }
    crowds
}

/// Claims that go into one transaction: all wait or none does, and each is on another resource, because keys that one
/// transaction creates have no order among them.
struct Part<'a> {
    if_busy: IfBusy,
    claims: Vec<Numbered<'a>>,
}

fn parts<'a>(claims: &[Numbered<'a>]) -> Vec<Part<'a>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut parts_of: HashMap<&ResourceName, usize> = HashMap::new();
    for &(at, claim) in claims {
        let first: &mut usize = parts_of.entry(&claim.key.resource).or_default();
        let fits = |part: &Part<'_>| part.if_busy == claim.if_busy && part.claims.len() < CHUNK;
        let free = (*first..parts.len()).find(|&number| fits(&parts[number]));
        let number = free.unwrap_or(parts.len());
        *first = number + 1;
        if number == parts.len() {
            parts.push(Part { if_busy: claim.if_busy, claims: Vec::new() });
        }
        parts[number].claims.push((at, claim));
    }
    parts
}
