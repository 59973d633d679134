//! Reads the answers of the scripts.

use std::time::Duration;

use rlock_core::{
    Acquired, BackendError, Claim, Extended, Failure, Grant, Holder, LeaseData, Owner, Place, Released, ResourceName,
    Snapshot, Token, Waiter,
};

use crate::wire::Reply;

/// The answer to one entry of a batch.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status and two values that go with it.
    Done(u8, u64, u64),
    /// The entry failed with this error of the server.
    Failed(String),
}

impl Answer {
    pub(crate) fn is_held(&self) -> bool {
        matches!(self, Self::Done(HELD, ..))
    }

    /// Whether the script has done nothing for this entry, because it did not get the resource's set.
    pub(crate) fn is_undecided(&self) -> bool {
        matches!(self, Self::Done(UNDECIDED, ..))
    }
}

// As in scripts/prelude.lua.
const UNDECIDED: u8 = 0;
const HELD: u8 = 1;
const QUEUED: u8 = 2;
const BUSY: u8 = 3;
const MISMATCH: u8 = 4;
const GONE: u8 = 5;
const COUNTED: u8 = 6;
const FAILED: u8 = 7;
// Releases answer letters instead.
const RELEASED: u8 = 8;
const ABSENT: u8 = 9;
/// The length of one packed answer.
const PACKED: usize = 17;

/// The reason that an answer is not a result.
pub(crate) enum Unreadable {
    /// The entry failed with this error of the server.
    Failed(String),
    /// It is not an answer of these scripts.
    Foreign(String),
}

/// Splits the answer to a batch into those of its entries.
pub(crate) fn entries(reply: &Reply, expected: usize) -> Result<Vec<Answer>, Unreadable> {
    let (packed, errors) = match reply {
        Reply::Array(parts) => parts.split_first().ok_or_else(|| foreign(reply))?,
        packed => (packed, &[][..]),
    };
    let packed = packed.bytes().filter(|bytes| bytes.len() == PACKED * expected).ok_or_else(|| foreign(reply))?;
    let answer = |entry: &[u8]| match (entry[0], number(&entry[1..9]), number(&entry[9..])) {
        (FAILED, at, _) => {
            let at = usize::try_from(at).ok().and_then(|at| at.checked_sub(1));
            match at.and_then(|at| errors.get(at)) {
                Some(Reply::Text(error)) => Ok(Answer::Failed(error.clone())),
                _ => Err(foreign(reply)),
            }
        }
        (status, a, b) => Ok(Answer::Done(status, a, b)),
    };
    packed.chunks_exact(PACKED).map(answer).collect()
}

/// Reads the answer of scripts/release.lua.
pub(crate) fn letters(reply: &Reply, expected: usize) -> Result<Vec<Answer>, Unreadable> {
    let (letters, mut errors) = match reply {
        Reply::Array(parts) => parts.split_first().ok_or_else(|| foreign(reply))?,
        letters => (letters, &[][..]),
    };
    let letters = letters.bytes().filter(|bytes| bytes.len() == expected).ok_or_else(|| foreign(reply))?;
    let mut answer = |letter: &u8| match letter {
        b'r' => Ok(Answer::Done(RELEASED, 0, 0)),
        b'a' => Ok(Answer::Done(ABSENT, 0, 0)),
        b'u' => Ok(Answer::Done(UNDECIDED, 0, 0)),
        _ => match errors.split_first() {
            Some((Reply::Text(error), rest)) => {
                errors = rest;
                Ok(Answer::Failed(error.clone()))
            }
            _ => Err(foreign(reply)),
        },
    };
    letters.iter().map(&mut answer).collect()
}

/// A number from a script: a double without a fraction, below 2^53.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from a float saturates")]
fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map(f64::from_le_bytes).map_or(0, |number| number as u64)
}

pub(crate) fn acquired(answer: &Answer, claim: &Claim) -> Result<Result<Acquired, BackendError>, Unreadable> {
    let acquired = match *answer {
        Answer::Done(HELD, token, ttl) => Acquired::Held(grant(token, ttl)),
        Answer::Done(QUEUED, ahead, again) => Acquired::Queued(place(ahead, again)),
        Answer::Done(BUSY, ..) => Acquired::Busy,
        Answer::Done(MISMATCH, actual, _) => {
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
        Answer::Done(HELD, token, ttl) => Ok(Extended::Held(grant(token, ttl))),
        Answer::Done(QUEUED, ahead, again) => Ok(Extended::Queued(place(ahead, again))),
        Answer::Done(GONE, taken, _) => Ok(Extended::Gone { taken: taken != 0 }),
        _ => Err(unreadable(answer)),
    }
}

pub(crate) fn released(answer: &Answer) -> Result<Released, Unreadable> {
    match *answer {
        Answer::Done(RELEASED, ..) => Ok(Released::Released),
        Answer::Done(ABSENT, ..) => Ok(Released::Absent),
        _ => Err(unreadable(answer)),
    }
}

/// The numbers of holders and waiters.
pub(crate) fn counted(answer: &Answer) -> Result<(u64, u64), Unreadable> {
    match *answer {
        Answer::Done(COUNTED, holders, waiters) => Ok((holders, waiters)),
        _ => Err(unreadable(answer)),
    }
}

pub(crate) fn snapshot(reply: &Reply, resource: &ResourceName) -> Result<Snapshot, Unreadable> {
    let Reply::Array(values) = reply else { return Err(foreign(reply)) };
    let [Reply::Number(now), Reply::Number(capacity), Reply::Number(rest), leases @ ..] = &values[..] else {
        return Err(foreign(reply));
    };
    let capacity = u32::try_from(*capacity).ok().filter(|&capacity| capacity > 0);
    let rest = (*rest > *now).then(|| micros(natural(rest - now)));
    let mut snapshot = Snapshot { resource: resource.clone(), capacity, holders: Vec::new(), queue: Vec::new(), rest };
    for lease in leases.chunks(5) {
        let [shown, Reply::Number(token), Reply::Number(weight), Reply::Number(since), Reply::Number(expires)] = lease
        else {
            return Err(foreign(reply));
        };
        let (owner, data) = shown.bytes().and_then(read_shown).ok_or_else(|| foreign(reply))?;
        let weight = u32::try_from(*weight).unwrap_or(u32::MAX);
        let (passed, remaining) = (micros(natural(now - since)), micros(natural(expires - now)));
        if *token > 0 {
            let token = Token::new(natural(*token));
            snapshot.holders.push(Holder { owner, token, weight, held_for: passed, remaining, data });
        } else {
            snapshot.queue.push(Waiter { owner, weight, waiting_for: passed, remaining, data });
        }
    }
    snapshot.holders.sort_unstable_by_key(|holder| holder.token);
    Ok(snapshot)
}

/// The server's time in microseconds, if it dropped a call because of its deadline.
pub(crate) fn late(reply: &Reply) -> Option<i64> {
    let Reply::Array(parts) = reply else { return None };
    let [Reply::Number(now)] = &parts[..] else { return None };
    Some(*now)
}

/// The time in the answer to `TIME`, in microseconds.
pub(crate) fn time(reply: &Reply) -> Option<i64> {
    let Reply::Array(parts) = reply else { return None };
    let [Reply::Text(seconds), Reply::Text(micros)] = &parts[..] else { return None };
    seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(micros.parse().ok()?)
}

/// Packs the parts of a claim that snapshots show into one string: the length of the owner's record in two bytes, that
/// record, and the data.
pub(crate) fn write_shown(claim: &Claim) -> Vec<u8> {
    let owner = claim.owner.to_record();
    let length = u16::try_from(owner.len()).expect("its parts are short");
    let data = claim.data.as_ref().map(LeaseData::as_bytes);
    let data = data.iter().flat_map(|data| std::iter::once(&0).chain(*data)); // no data and empty data differ
    length.to_le_bytes().iter().chain(owner.as_bytes()).chain(data).copied().collect()
}

fn read_shown(shown: &[u8]) -> Option<(Owner, Option<LeaseData>)> {
    let (length, rest) = shown.split_first_chunk()?;
    let (owner, data) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    let data = data.split_first().and_then(|(_, data)| LeaseData::new(data).ok());
    Some((Owner::from_record(&String::from_utf8_lossy(owner)), data))
}

pub(crate) fn foreign(reply: &Reply) -> Unreadable {
    Unreadable::Foreign(format!("{reply:?}"))
}

impl Unreadable {
    /// The error text for an answer that is not from rlock's scripts.
    pub(crate) fn explain(answer: &str) -> String {
        format!("the server gave an unexpected answer: {answer:.200}")
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
        Answer::Failed(error) => Unreadable::Failed(error.clone()),
        Answer::Done(..) => Unreadable::Foreign(format!("{answer:?}")),
    }
}

fn grant(token: u64, ttl: u64) -> Grant {
    Grant { token: Token::new(token), ttl: micros(ttl) }
}

fn place(ahead: u64, ask_again: u64) -> Place {
    Place { ahead, ask_again: micros(ask_again) }
}

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
