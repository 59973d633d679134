//! Claims that do not wait. Each reads its line first, so that a refusal writes nothing.

use std::collections::HashMap;

use futures_util::future::{join_all, try_join_all};
use rlock_core::{Acquired, BackendError, Claim, Moment};
use tokio::time::Instant;

use super::attempt::{Attempt, first, taken};
use super::join::{held, mismatch};
use super::{Answer, Numbered};
use crate::answer::{Found, foreign};
use crate::crowds::two_spots;
use crate::error::{CallError, Kind};
use crate::inner::Inner;
use crate::line::{Line, permits};
use crate::record::State;
use crate::sighting::Sighting;
use crate::spot::{Class, Spot};
use crate::txn::{self, At};

/// The maximum number of leases in one answer: with the longest data some 15 MB.
const PART: u32 = 10_000;

/// The result of a claim's look at its line.
enum Look {
    Room(Room),
    /// The lease itself, written by an earlier request or by another client.
    There(Sighting),
    Busy,
    Refused(BackendError),
}

/// Room in a line as of a revision. Another lease may join the line after it.
#[derive(Clone, Copy)]
struct Room {
    revision: i64,
    spots: [Spot; 2],
    /// Whether the first spot is known to be free.
    is_sure: bool,
}

impl Inner {
    pub(super) async fn enter(&self, begun: Moment, claims: &[Numbered<'_>]) -> Vec<(usize, Answer)> {
        let mut answers = Vec::with_capacity(claims.len());
        let (mut left, mut ends) = (claims.to_vec(), Vec::new());
        let deadline = Instant::now() + self.config.timeout;
        while !left.is_empty() && Instant::now() < deadline {
            let asked: Vec<_> = left.iter().map(|(_, claim)| *claim).collect();
            let looks = match self.look_for_room(&asked).await {
                Ok(looks) => looks,
                Err(mut error) => {
                    if error.kind != Kind::Refused {
                        error.kind = Kind::Unsent; // the request only reads
                    }
                    answers.extend(left.drain(..).map(|(at, claim)| {
                        let was_sent = self.own_leases.find(claim.key.id).is_some();
                        let kind = if was_sent { error.kind.after_a_write() } else { error.kind };
                        (at, Err(self.failed(CallError { kind, ..error.clone() }, "acquire")))
                    }));
                    break;
                }
            };
            let (mut free, mut rooms, mut there) = (Vec::new(), HashMap::new(), Vec::new());
            for (numbered, look) in std::mem::take(&mut left).into_iter().zip(looks) {
                let (at, claim) = numbered;
                match look {
                    Look::Room(room) => {
                        free.push(numbered);
                        rooms.insert(at, room);
                    }
                    Look::There(sighting) => there.push((at, claim, sighting)),
                    Look::Busy => {
                        ends.push(self.own_leases.end(claim.key.id));
                        answers.push((at, Ok(Acquired::Busy)));
                    }
                    Look::Refused(error) => {
                        ends.push(self.own_leases.end(claim.key.id));
                        answers.push((at, Err(error)));
                    }
                }
            }
            answers.extend(self.answer_all(begun, there).await);
            let (attempts, failed) = self.begin(begun, &free).await;
            answers.extend(failed);
            let (entered, others) = self.enter_all(begun, attempts, &rooms).await;
            answers.extend(entered);
            left = others;
        }
        let error = CallError::new(Kind::Unsent, "other clients kept joining the line: try again");
        for (at, claim) in left {
            ends.push(self.own_leases.end(claim.key.id));
            answers.push((at, Err(self.failed(error.clone(), "acquire"))));
        }
        join_all(ends).await;
        answers
    }

    /// Sends claims that found room, and answers those that were written.
    async fn enter_all<'a>(
        &self,
        begun: Moment,
        begun_attempts: Vec<Attempt<'a>>,
        rooms: &HashMap<usize, Room>,
    ) -> (Vec<(usize, Answer)>, Vec<Numbered<'a>>) {
        let (mut answers, mut left, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
        let renewed = begun_attempts.into_iter().map(async |mut attempt| {
            // A write of an earlier request that arrives late must have no effect.
            let renewed = if attempt.again { self.renew(&mut attempt).await } else { Ok(()) };
            (attempt, renewed)
        });
        for (mut attempt, renewed) in join_all(renewed).await {
            match renewed {
                Ok(()) => {
                    attempt.spots = Some(rooms[&attempt.at].spots);
                    attempts.push(attempt);
                }
                Err(error) => answers.extend(self.fail(&[attempt], &error)),
            }
        }
        if attempts.is_empty() {
            return (answers, left);
        }
        let sent = self.send(&mut attempts, |attempt| {
            let (put, Room { revision, spots, is_sure }) = (self.put(attempt, State::Granted), rooms[&attempt.at]);
            if is_sure { txn::enter_at(&put, spots[0], revision) } else { txn::enter(&put, spots, revision) }
        });
        let done = match sent.await {
            Ok(done) => done,
            Err(error) => {
                answers.extend(self.fail(&attempts, &error));
                return (answers, left);
            }
        };
        let mut alone = Vec::new();
        for (attempt, outcome) in attempts.into_iter().zip(done.outcomes) {
            let Room { spots, is_sure, .. } = rooms[&attempt.at];
            match if is_sure { first(spots[0], outcome) } else { taken(spots, outcome) } {
                Ok(Ok(written)) => {
                    let entry = self.written(&attempt, State::Granted, written.spot, done.at);
                    alone.push((attempt.at, attempt.claim, held(entry, done.at)));
                }
                Ok(Err(_)) => {
                    if !attempt.again {
                        self.own_leases.missed(attempt.claim.key.id);
                    }
                    left.push((attempt.at, attempt.claim));
                }
                Err(error) => answers.extend(self.fail(&[attempt], &error)),
            }
        }
        answers.extend(self.answer_all(begun, alone).await);
        (answers, left)
    }

    async fn look_for_room(&self, claims: &[&Claim]) -> Result<Vec<Look>, CallError> {
        let groups = claims.iter().map(|claim| self.room_ops(claim)).collect();
        let answers = self.look_at_groups(groups).await?;
        try_join_all(claims.iter().zip(answers).map(|(claim, (at, found))| self.room(claim, at, found))).await
    }

    /// The reads that look for room. A claim that was sent before without an answer also reads the spots that it was
    /// sent for.
    fn room_ops(&self, claim: &Claim) -> Vec<etcd_client::TxnOp> {
        let (name, share) = (&claim.key.resource, claim.share);
        let front = self.keys.line(name);
        let mut ops = vec![txn::peek(&front)];
        if !share.is_exclusive() {
            let spot = Spot::new(share, 0);
            let of = |class| txn::class_front(&front, spot, class);
            ops.extend([txn::count(&of(Class::Exclusive)), txn::count(&of(Class::Light)), txn::peek(&of(Class::Many))]);
        }
        let spots = self.own_leases.spots(claim.key.id);
        ops.extend(spots.into_iter().map(|spot| txn::lease(&self.keys.spot(name, spot))));
        ops
    }

    async fn room(&self, claim: &Claim, at: At, found: Vec<Found>) -> Result<Look, CallError> {
        let front = self.keys.line(&claim.key.resource);
        let mut found = found.into_iter();
        let peek = found.next().ok_or_else(foreign)?;
        let line = Line::read(&front, at, &peek.kvs);
        let is_whole = peek.kvs.len() as u64 == peek.count;
        let sighting = Sighting::of(&line, claim.key.id);
        if is_whole && sighting.found.is_some() {
            return Ok(Look::There(sighting));
        }
        if let Some(mismatch) = mismatch(claim, &line) {
            return Ok(Look::Refused(mismatch));
        }
        let weight = claim.share.weight();
        if is_whole {
            let spots = line.free_spots(claim.share);
            let room = Room { revision: at.revision, spots, is_sure: true };
            return Ok(if line.has_room_for(weight) { Look::Room(room) } else { Look::Busy });
        }
        let shared = if claim.share.is_exclusive() { None } else { found.next().zip(found.next()).zip(found.next()) };
        if let Some(own) = found.flat_map(|found| found.leases(&front, at)).find(|own| own.is(claim.key.id)) {
            // An earlier request wrote it while there was room.
            return Ok(Look::There(held(own, at)));
        }
        let Some(((exclusive, light), many)) = shared else { return Ok(Look::Busy) };
        // Each lease that was not read takes at least two permits.
        let unread = many.count.saturating_sub(many.kvs.len() as u64);
        let least = permits(&many.leases(&front, at)) + 2 * unread;
        let room = u64::from(claim.share.capacity()).checked_sub(light.count + u64::from(weight));
        let room = room.filter(|&room| exclusive.count == 0 && least <= room);
        let Some(room) = room else { return Ok(Look::Busy) };
        if unread > 0 {
            // Leases that were created later prevent the claim.
            let class = txn::class_front(&front, Spot::new(claim.share, 0), Class::Many);
            if self.take_more_than(room, &front, &class, at.revision).await? {
                return Ok(Look::Busy);
            }
        }
        let spots = two_spots(claim.share, light.count + many.count);
        Ok(Look::Room(Room { revision: at.revision, spots, is_sure: false }))
    }

    /// Whether the leases that were created up to a revision, of those whose keys begin with `class`, take more than
    /// `room` permits.
    async fn take_more_than(&self, room: u64, front: &str, class: &str, revision: i64) -> Result<bool, CallError> {
        let (mut from, mut taken) = (class.as_bytes().to_vec(), 0);
        loop {
            let (now, part) = self.look_at(txn::created_by(class, from, revision, PART)).await?;
            taken += permits(&part.leases(front, now));
            match part.kvs.last() {
                Some(last) if taken <= room && part.kvs.len() == PART as usize => {
                    from = last.key().to_vec();
                    from.push(0); // the next key
                }
                _ => return Ok(taken > room),
            }
        }
    }
}
