//! Finds out whether leases are held, from the leases in front of them, at a cost that does not grow with their lines.

use futures_util::future::try_join_all;
use rlock_core::ResourceName;

use crate::answer::{Found, foreign};
use crate::error::CallError;
use crate::inner::Inner;
use crate::line::{Entry, Line, Standing, Wait, blockers, permits};
use crate::sighting::{Question, Sighting};
use crate::spot::Class;
use crate::txn::{self, At, NEAR};

/// The maximum number of leases that each further read returns.
const PAGE: u32 = 64;

impl Inner {
    /// Reads each lease, the nearest leases in front of it, and the number of leases in its line.
    pub(crate) async fn survey(&self, questions: &[Question<'_>]) -> Result<Vec<Sighting>, CallError> {
        let asked = questions.iter().map(|question| self.survey_ops(question)).collect();
        let answers = self.look_at_groups(asked).await?;
        try_join_all(questions.iter().zip(answers).map(|(question, (at, found))| self.judge(question, at, found))).await
    }

    fn survey_ops(&self, question: &Question<'_>) -> Vec<etcd_client::TxnOp> {
        let Question { resource, spot, created, .. } = *question;
        let front = self.keys.line(resource);
        let mut ops = vec![
            txn::lease(&self.keys.spot(resource, spot)),
            txn::count(&front),
            txn::before(&txn::capacity_front(&front, spot), created, NEAR),
        ];
        if spot.class != Class::Exclusive {
            ops.extend([
                txn::before(&txn::class_front(&front, spot, Class::Exclusive), created, 1),
                txn::count(&txn::class_front(&front, spot, Class::Light)),
                txn::peek(&txn::class_front(&front, spot, Class::Many)),
            ]);
        }
        ops
    }

    async fn judge(&self, question: &Question<'_>, at: At, found: Vec<Found>) -> Result<Sighting, CallError> {
        let (front, seat) = (self.keys.line(question.resource), Some(question.seat()));
        let mut found = found.into_iter();
        let (Some(own), Some(all), Some(near)) = (found.next(), found.next(), found.next()) else {
            return Err(foreign());
        };
        let Some(own) = own.lease(&front, at).filter(|own| own.is(question.id) && own.created == question.created)
        else {
            return Ok(Sighting { at, seat, found: None, others: all.count > 0 });
        };
        let is_whole = near.kvs.len() < NEAR as usize;
        let nearest = near.leases(&front, at);
        let others = all.count > 1;
        let seen = |standing| Ok(Sighting { at, seat, found: Some((own.clone(), standing)), others });
        if is_whole {
            return seen(exactly(&own, at, nearest));
        }
        // All leases but its own and at least one holder: an upper bound of the waiters in front of it.
        let ahead = all.count.saturating_sub(2);
        if let Some(blockers) = blockers(&own, nearest.iter()) {
            return seen(Standing::Queued(Wait { ahead, blockers }));
        }
        if let (Some(exclusive), Some(light), Some(many)) = (found.next(), found.next(), found.next()) {
            if let Some(exclusive) = exclusive.leases(&front, at).first() {
                return seen(Standing::Queued(Wait { ahead, blockers: vec![exclusive.blocker()] }));
            }
            let is_all = many.kvs.len() as u64 == many.count;
            let taken = light.count + permits(&many.leases(&front, at));
            if is_all && taken <= own.capacity() {
                return seen(Standing::Held);
            }
        }
        let same_capacity = txn::capacity_front(&front, question.spot);
        let (nearest, is_whole) = self.read_back(question.resource, &same_capacity, own.created, own.room()).await?;
        let standing = match blockers(&own, nearest.iter()) {
            Some(blockers) if !is_whole => Standing::Queued(Wait { ahead, blockers }),
            _ => exactly(&own, at, nearest),
        };
        seen(standing)
    }

    /// Reads the leases that were created before a revision, of those whose keys begin with `front`, the nearest first,
    /// until they take more than `room` permits. Returns them, and whether they are all of them.
    async fn read_back(
        &self,
        resource: &ResourceName,
        front: &str,
        mut created: i64,
        room: u64,
    ) -> Result<(Vec<Entry>, bool), CallError> {
        let line = self.keys.line(resource);
        let mut leases = Vec::new();
        loop {
            let (at, found) = self.look_at(txn::before(front, created, PAGE)).await?;
            leases.extend(found.leases(&line, at));
            match found.kvs.last() {
                Some(last) if found.kvs.len() == PAGE as usize => created = last.create_revision(),
                _ => return Ok((leases, true)),
            }
            if permits(&leases) > room {
                return Ok((leases, false));
            }
        }
    }
}

/// The standing of a lease behind all of these.
fn exactly(own: &Entry, at: At, mut nearest: Vec<Entry>) -> Standing {
    nearest.push(own.clone());
    let line = Line::new(at, nearest);
    line.find(own.record.id).map_or(Standing::Held, |(_, standing)| standing)
}
