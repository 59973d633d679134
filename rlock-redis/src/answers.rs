//! Reads what the scripts answer.

use std::time::Duration;

use rlock_core::{
    Acquired, BackendError, Claim, Extended, Failure, Grant, Holder, Owner, Place, Released, ResourceName, Snapshot,
    Token, Waiter,
};

use crate::conn::Reply;

/// What became of one entry of a batch: a status and two values that go with it.
pub(crate) type Answer = [Reply; 3];

// As in scripts/prelude.lua.
const HELD: i64 = 1;
const QUEUED: i64 = 2;
const BUSY: i64 = 3;
const MISMATCH: i64 = 4;
const GONE: i64 = 5;
const RELEASED: i64 = 6;
const ABSENT: i64 = 7;
const COUNTED: i64 = 8;
const FAILED: i64 = 9;

/// Why an answer is not what the caller reads.
pub(crate) enum Unreadable {
    /// The entry failed with this error of the server.
    Failed(String),
    /// It is no answer of these scripts.
    Foreign(String),
}

/// Cuts the answer to a batch into those of its entries.
pub(crate) fn entries(reply: Reply, expected: usize) -> Result<Vec<Answer>, Unreadable> {
    let Reply::Array(values) = reply else { return Err(foreign(&reply)) };
    if values.len() != 3 * expected {
        return Err(Unreadable::Foreign(format!("{} values for {expected} entries", values.len())));
    }
    let mut values = values.into_iter();
    let mut answers = Vec::with_capacity(expected);
    while let (Some(status), Some(a), Some(b)) = (values.next(), values.next(), values.next()) {
        answers.push([status, a, b]);
    }
    Ok(answers)
}

pub(crate) fn acquired(answer: &Answer, claim: &Claim) -> Result<Result<Acquired, BackendError>, Unreadable> {
    let acquired = match *answer {
        [Reply::Number(HELD), Reply::Number(token), Reply::Number(ttl)] => Acquired::Held(grant(token, ttl)),
        [Reply::Number(QUEUED), Reply::Number(ahead), Reply::Number(again)] => Acquired::Queued(place(ahead, again)),
        [Reply::Number(BUSY), ..] => Acquired::Busy,
        [Reply::Number(MISMATCH), Reply::Number(actual), _] => {
            return Ok(Err(BackendError::CapacityMismatch {
                resource: claim.key.resource.clone(),
                asked: claim.share.capacity(),
                actual: u32::try_from(actual).unwrap_or(u32::MAX),
            }));
        }
        _ => return Err(unreadable(answer)),
    };
    Ok(Ok(acquired))
}

pub(crate) fn extended(answer: &Answer) -> Result<Extended, Unreadable> {
    match *answer {
        [Reply::Number(HELD), Reply::Number(token), Reply::Number(ttl)] => Ok(Extended::Held(grant(token, ttl))),
        [Reply::Number(QUEUED), Reply::Number(ahead), Reply::Number(again)] => {
            Ok(Extended::Queued(place(ahead, again)))
        }
        [Reply::Number(GONE), Reply::Number(taken), _] => Ok(Extended::Gone { taken: taken != 0 }),
        _ => Err(unreadable(answer)),
    }
}

pub(crate) fn released(answer: &Answer) -> Result<Released, Unreadable> {
    match *answer {
        [Reply::Number(RELEASED), ..] => Ok(Released::Released),
        [Reply::Number(ABSENT), ..] => Ok(Released::Absent),
        _ => Err(unreadable(answer)),
    }
}

/// Holders and waiters.
pub(crate) fn counted(answer: &Answer) -> Result<(u64, u64), Unreadable> {
    match *answer {
        [Reply::Number(COUNTED), Reply::Number(holders), Reply::Number(waiters)] => {
            Ok((natural(holders), natural(waiters)))
        }
        _ => Err(unreadable(answer)),
    }
}

pub(crate) fn snapshot(reply: &Reply, resource: &ResourceName) -> Result<Snapshot, Unreadable> {
    let Reply::Array(values) = reply else { return Err(foreign(reply)) };
    let [Reply::Number(now), Reply::Number(capacity), leases @ ..] = &values[..] else { return Err(foreign(reply)) };
    let capacity = u32::try_from(*capacity).ok().filter(|&capacity| capacity > 0);
    let mut snapshot =
        Snapshot { resource: resource.clone(), capacity, holders: Vec::new(), queue: Vec::new(), rest: None };
    for lease in leases.chunks(5) {
        let [owner, Reply::Number(token), Reply::Number(weight), Reply::Number(since), Reply::Number(expires)] = lease
        else {
            return Err(foreign(reply));
        };
        let Reply::Text(owner) = owner else { return Err(foreign(reply)) };
        let owner = Owner::from_record(owner);
        let weight = u32::try_from(*weight).unwrap_or(u32::MAX);
        let (passed, remaining) = (micros(now - since), micros(expires - now));
        if *token > 0 {
            let token = Token::new(natural(*token));
            snapshot.holders.push(Holder { owner, token, weight, held_for: passed, remaining, data: None });
        } else {
            snapshot.queue.push(Waiter { owner, weight, waiting_for: passed, remaining, data: None });
        }
    }
    snapshot.holders.sort_unstable_by_key(|holder| holder.token);
    Ok(snapshot)
}

pub(crate) fn foreign(reply: &Reply) -> Unreadable {
    Unreadable::Foreign(format!("{reply:?}"))
}

impl Unreadable {
    /// What a caller is told of an answer that is no answer of ours.
    pub(crate) fn explain(answer: &str) -> String {
        format!("the server gave an answer that rlock's scripts do not give: {answer:.200}")
    }

    pub(crate) fn into_failure(self, operation: &'static str, store: &std::sync::Arc<str>) -> BackendError {
        match self {
            Self::Failed(text) => crate::error::refused(&text, operation, store),
            Self::Foreign(answer) => {
                BackendError::Unknown(Failure::new(operation, store.clone(), Self::explain(&answer)))
            }
        }
    }
}

fn unreadable(answer: &Answer) -> Unreadable {
    match answer {
        [Reply::Number(FAILED), Reply::Text(error), _] => Unreadable::Failed(error.clone()),
        _ => Unreadable::Foreign(format!("{answer:?}")),
    }
}

fn grant(token: i64, ttl: i64) -> Grant {
    Grant { token: Token::new(natural(token)), ttl: micros(ttl) }
}

fn place(ahead: i64, ask_again: i64) -> Place {
    Place { ahead: natural(ahead), ask_again: micros(ask_again) }
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(natural(micros))
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
