//! Extends leases.

use std::collections::HashMap;

use etcd_client::TxnOp;
use futures_util::future::{join, join_all, try_join, try_join3};
use rlock_core::{BackendError, Extended, Extension, Grant, Moment, ResourceName};

use crate::answer::{Found, foreign};
use crate::error::{CallError, Kind};
use crate::inner::Inner;
use crate::known::{Known, Phase};
use crate::line::{Blocker, Entry, Line, Seat, Standing, Wait};
use crate::pool::Lease;
use crate::sighting::{Question, Sighting};
use crate::txn::{self, At, NEAR};

/// A waiter with more blockers than this is judged by the leases in front of it, in etcd's order.
const FEW: usize = 4;
/// In a line of up to this many leases, a waiter learns exactly how many are in front of it.
const SHORT: u64 = 2 * NEAR as u64;

/// The part of a line to read for a lease.
enum Look<'a> {
    /// Its own key and those of its blockers: enough while nothing has changed.
    Keys(&'a Known, Seat),
    /// The leases in front of it, because there are few, or many block it.
    Front(Question<'a>),
    /// Its whole line, because this client does not know the lease.
    Line,
}

/// The result of reading the keys of a lease and its blockers.
enum Seen {
    Unchanged(Box<Sighting>),
    /// A blocker has gone, or the line is short: read more.
    Changed,
    Gone,
}

impl Inner {
    pub(crate) async fn extend_all(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let begun = self.own_leases.now();
        let known: Vec<_> = extensions.iter().map(|extension| self.own_leases.find(extension.key.id)).collect();
        // The keep-alive and the read run together. Only the read shows that the lease still exists: a server may
        // confirm one that it has deleted.
        let touches = extensions.iter().zip(&known).map(|(extension, known)| self.touch_known(begun, extension, known));
        let (sightings, touched) = join(self.sight_all(extensions, &known), join_all(touches)).await;
        let sightings = match sightings {
            Ok(sightings) => sightings,
            Err(error) => {
                // The keep-alives may have succeeded nevertheless.
                let kind = if error.kind == Kind::Unsent { Kind::Unanswered } else { error.kind };
                let failure = self.failed(CallError { kind, ..error }, "extend");
                return extensions.iter().map(|_| Err(failure.clone())).collect();
            }
        };
        let all = extensions.iter().zip(known).zip(sightings.into_iter().zip(touched));
        let finish = all.map(|((extension, known), (sighting, touched))| async move {
            let extended = match &sighting.found {
                None => Ok(Extended::Gone { taken: sighting.others }),
                Some(found) => self.extended(begun, extension, known, touched, found).await,
            };
            extended.map_err(|error| self.failed(error, "extend"))
        });
        join_all(finish).await
    }

    /// Keeps the etcd lease alive, if it is known and has less time left than it should.
    async fn touch_known(
        &self,
        begun: Moment,
        extension: &Extension,
        known: &Option<Known>,
    ) -> Option<Result<Lease, CallError>> {
        let known = known.as_ref()?;
        let (mut lease, ttl) = (known.lease, extension.ttl.get());
        if lease.left(begun) >= ttl || lease.ttl < ttl {
            return Some(Ok(lease));
        }
        match self.pool.touch(&mut lease).await {
            Ok(true) => {
                self.own_leases.touched(known.key.id, lease);
                Some(Ok(lease))
            }
            Ok(false) => {
                let reason = "a server does not know the lease, although it exists; it may be behind the others";
                Some(Err(CallError::new(Kind::Unanswered, reason)))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Reads each lease, and reads more of the line of each that has changed.
    async fn sight_all(&self, extensions: &[Extension], known: &[Option<Known>]) -> Result<Vec<Sighting>, CallError> {
        let (mut keys, mut fronts, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for (number, known) in known.iter().enumerate() {
            match look_of(known) {
                Look::Keys(known, seat) => keys.push((number, known, seat)),
                Look::Front(question) => fronts.push((number, question)),
                Look::Line => unknown.push(number),
            }
        }
        let questions: Vec<_> = fronts.iter().map(|(_, question)| *question).collect();
        let groups = keys.iter().map(|(_, known, seat)| self.key_ops(known, *seat)).collect();
        let lines = self.lines_of(extensions, &unknown);
        let (answers, in_front, lines) = try_join3(self.look_at_groups(groups), self.survey(&questions), lines).await?;
        let mut sightings: Vec<_> = fronts.into_iter().map(|(number, _)| number).zip(in_front).collect();
        sightings.extend(unknown.into_iter().map(|number| {
            let key = &extensions[number].key;
            (number, Sighting::of(&lines[&key.resource], key.id))
        }));
        let (mut unclear, mut gone) = (Vec::new(), Vec::new());
        for ((number, known, seat), (at, found)) in keys.into_iter().zip(answers) {
            match self.unchanged(known, seat, at, found)? {
                Seen::Unchanged(sighting) => sightings.push((number, *sighting)),
                Seen::Changed => unclear.extend(known.question().map(|question| (number, question))),
                Seen::Gone => gone.push((number, seat, at)),
            }
        }
        let (numbers, questions): (Vec<_>, Vec<_>) = unclear.into_iter().unzip();
        let count = |(number, ..): &(usize, Seat, At)| txn::count(&self.keys.line(&extensions[*number].key.resource));
        let (surveyed, counted) =
            try_join(self.survey(&questions), self.look(gone.iter().map(count).collect())).await?;
        sightings.extend(numbers.into_iter().zip(surveyed));
        for ((number, seat, at), (_, found)) in gone.into_iter().zip(counted) {
            sightings.push((number, Sighting { at, seat: Some(seat), found: None, others: found.count > 0 }));
        }
        sightings.sort_unstable_by_key(|(number, _)| *number);
        let sightings: Vec<_> = sightings.into_iter().map(|(_, sighting)| sighting).collect();
        extensions.iter().zip(&sightings).for_each(|(extension, it)| self.own_leases.seen(extension.key.id, it));
        Ok(sightings)
    }

    fn key_ops(&self, known: &Known, seat: Seat) -> Vec<TxnOp> {
        let name = &known.key.resource;
        let mut ops = vec![txn::lease(&self.keys.spot(name, seat.spot))];
        if let Phase::Queued(_, wait) = &known.phase {
            ops.push(txn::count(&self.keys.line(name)));
            ops.extend(wait.blockers.iter().map(|blocker| txn::lease(&self.keys.spot(name, blocker.spot))));
        }
        ops
    }

    /// The whole lines of leases that this client does not know, each read once.
    async fn lines_of<'a>(
        &self,
        extensions: &'a [Extension],
        unknown: &[usize],
    ) -> Result<HashMap<&'a ResourceName, Line>, CallError> {
        let mut names: Vec<_> = unknown.iter().map(|&number| &extensions[number].key.resource).collect();
        names.sort_unstable();
        names.dedup();
        let lines = self.lines(&names).await?;
        Ok(names.into_iter().zip(lines).collect())
    }

    /// Compares the keys of a lease and its blockers with what is known of them.
    fn unchanged(&self, known: &Known, seat: Seat, at: At, found: Vec<Found>) -> Result<Seen, CallError> {
        let front = self.keys.line(&known.key.resource);
        let mut found = found.into_iter();
        let own = found.next().ok_or_else(foreign)?.lease(&front, at);
        let Some(own) = own.filter(|own| own.is(known.key.id) && Seat::of(own) == seat) else { return Ok(Seen::Gone) };
        let sighted = |own, standing| {
            let found = Some((own, standing));
            Ok(Seen::Unchanged(Box::new(Sighting { at, seat: Some(seat), found, others: true })))
        };
        let Phase::Queued(_, wait) = &known.phase else {
            return sighted(own, Standing::Held);
        };
        let all = found.next().ok_or_else(foreign)?;
        let stays = |(blocker, found): (&Blocker, Found)| {
            found.kvs.first().is_some_and(|kv| kv.create_revision() == blocker.created)
        };
        if all.count <= SHORT || !wait.blockers.iter().zip(found).all(stays) {
            return Ok(Seen::Changed);
        }
        let ahead = wait.ahead.min(all.count - 2);
        let standing = Standing::Queued(Wait { ahead, ..wait.clone() });
        sighted(own, standing)
    }

    /// Finishes the extension of a lease that exists.
    async fn extended(
        &self,
        begun: Moment,
        extension: &Extension,
        known: Option<Known>,
        touched: Option<Result<Lease, CallError>>,
        (entry, standing): &(Entry, Standing),
    ) -> Result<Extended, CallError> {
        let is_new = known.is_none();
        let ours = known.filter(|known| known.is(entry) && known.lease.id == entry.lease).is_some();
        let lease = match touched {
            Some(lease) if ours => lease?,
            // It is another client's, or it was attached to another etcd lease without this client's knowledge.
            _ => match self.touch_foreign(extension, entry).await? {
                Some(lease) => {
                    if is_new {
                        self.own_leases.met(extension.key.id, entry.spot);
                    }
                    lease
                }
                None => return self.gone(&extension.key, entry).await,
            },
        };
        let ttl = extension.ttl.get();
        let lease = if lease.left(begun) >= ttl || ttl <= lease.ttl {
            lease
        } else {
            match self.attach(extension, entry).await? {
                Some(lease) => lease,
                None => return self.gone(&extension.key, entry).await,
            }
        };
        Ok(match standing {
            Standing::Queued(wait) => Extended::Queued(wait.place()),
            Standing::Held => Extended::Held(Grant { token: entry.token, ttl: lease.left(begun) }),
        })
    }
}

fn look_of(known: &Option<Known>) -> Look<'_> {
    let Some((known, seat)) = known.as_ref().and_then(|known| Some((known, known.seat()?))) else { return Look::Line };
    match (&known.phase, known.question()) {
        (Phase::Queued(_, wait), Some(question)) if wait.ahead < u64::from(NEAR) || wait.blockers.len() > FEW => {
            Look::Front(question)
        }
        _ => Look::Keys(known, seat),
    }
}
