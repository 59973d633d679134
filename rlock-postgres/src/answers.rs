//! Reads what the statements answer.

use std::time::Duration;

use rlock_core::{
    Acquired, Extended, Grant, Holder, LeaseId, Owner, Place, Released, ResourceName, Snapshot, Token, Waiter,
};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

/// What has come of an operation, as sql/change.sql has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) what: i32,
    x: i64,
    y: i64,
}

pub(crate) const LATE: i32 = 0;
const HELD: i32 = 1;
const QUEUED: i32 = 2;
const BUSY: i32 = 3;
const MISMATCH: i32 = 4;
const GONE: i32 = 5;
const RELEASED: i32 = 6;
const ABSENT: i32 = 7;
const DONE: i32 = 8;
const GRANTED: i32 = 9;
const BROKEN: i32 = 10;
const EARLY: i32 = 11;

/// A claim's answer, or the capacity that is in its way.
pub(crate) enum Claimed {
    Acquired(Acquired),
    OtherCapacity(u32),
}

/// What the answers to a batch are.
#[derive(Debug)]
pub(crate) struct Answers {
    /// In the order of the operations; `None` where there is none.
    pub(crate) operations: Vec<Option<Answer>>,
    pub(crate) letters: Vec<Letter>,
}

/// A message to a client.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) inbox: String,
    pub(crate) message: String,
}

impl Answers {
    pub(crate) fn read(rows: &[PgRow], operations: usize) -> sqlx::Result<Self> {
        let mut answers = Self { operations: vec![None; operations], letters: Vec::new() };
        for row in rows {
            let answer = Answer { what: row.try_get(0)?, x: row.try_get(2)?, y: row.try_get(3)? };
            match answer.what {
                GRANTED | BROKEN => {
                    let (inbox, id) = (row.try_get(4)?, row.try_get(5)?);
                    let letter = if answer.what == GRANTED {
                        Letter::granted(inbox, id, answer.x)
                    } else {
                        Letter::broken(inbox, id)
                    };
                    answers.letters.push(letter);
                }
                _ => {
                    let number: i64 = row.try_get(1)?;
                    let at = usize::try_from(number - 1).ok().and_then(|at| answers.operations.get_mut(at));
                    *at.ok_or_else(|| sqlx::Error::Decode("an answer to nothing".into()))? = Some(answer);
                }
            }
        }
        Ok(answers)
    }
}

impl Letter {
    fn granted(inbox: String, id: &str, token: i64) -> Self {
        Self { inbox, message: format!("g {id} {token}") }
    }

    fn broken(inbox: String, id: &str) -> Self {
        Self { inbox, message: format!("b {id}") }
    }
}

impl Answer {
    pub(crate) fn acquired(self) -> Option<Claimed> {
        Some(match self.what {
            HELD => Claimed::Acquired(Acquired::Held(self.grant())),
            QUEUED => Claimed::Acquired(Acquired::Queued(self.place())),
            BUSY => Claimed::Acquired(Acquired::Busy),
            MISMATCH => Claimed::OtherCapacity(u32::try_from(self.x).unwrap_or(u32::MAX)),
            _ => return None,
        })
    }

    pub(crate) fn extended(self) -> Option<Extended> {
        Some(match self.what {
            HELD => Extended::Held(self.grant()),
            QUEUED => Extended::Queued(self.place()),
            GONE => Extended::Gone { taken: self.x > 0 },
            _ => return None,
        })
    }

    pub(crate) fn released(self) -> Option<Released> {
        match self.what {
            RELEASED => Some(Released::Released),
            ABSENT => Some(Released::Absent),
            _ => None,
        }
    }

    /// How many leases are left in the row, after a release.
    pub(crate) fn leases_left(self) -> i64 {
        self.x
    }

    /// How long it is until the tables are old enough for claims, if they are not.
    pub(crate) fn is_early_by(self) -> Option<Duration> {
        (self.what == EARLY).then(|| micros(self.x))
    }

    /// How many leases were broken.
    pub(crate) fn broken(self) -> Option<u64> {
        (self.what == DONE).then_some(natural(self.x))
    }

    fn grant(self) -> Grant {
        grant(self.x, self.y)
    }

    fn place(self) -> Place {
        Place { ahead: natural(self.x), ask_again: micros(self.y) }
    }
}

/// The answer of sql/acquire.sql to a claim that is held.
pub(crate) fn held(row: &PgRow) -> sqlx::Result<Option<Grant>> {
    let (token, ttl): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(token.zip(ttl).map(|(token, ttl)| grant(token, ttl)))
}

/// The answer of sql/extend.sql.
pub(crate) fn extended(row: &PgRow) -> sqlx::Result<Extended> {
    let (token, ttl): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if token > 0 {
        return Ok(Extended::Held(grant(token, ttl)));
    }
    let (ahead, blocked): (i32, i64) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Extended::Queued(Place { ahead: natural(ahead.into()), ask_again: micros(blocked) }))
}

/// What sql/release.sql answers: whom it has granted the resource to, if there is somebody.
pub(crate) fn letter_to_next(row: &PgRow) -> sqlx::Result<Option<Letter>> {
    let Some(token) = row.try_get::<Option<i64>, _>(0)? else { return Ok(None) };
    Ok(Some(Letter::granted(row.try_get(1)?, row.try_get(2)?, token)))
}

/// Whether sql/acquire.sql says that what is there is in the way.
pub(crate) fn is_busy(row: &PgRow) -> sqlx::Result<bool> {
    Ok(row.try_get::<Option<bool>, _>(2)?.unwrap_or(false))
}

/// What sql/inspect.sql found, and whether something has to be dropped or granted.
pub(crate) fn snapshot(rows: &[PgRow], resource: &ResourceName) -> sqlx::Result<(Snapshot, bool)> {
    let mut snapshot =
        Snapshot { resource: resource.clone(), capacity: None, holders: Vec::new(), queue: Vec::new(), rest: None };
    let mut is_stale = false;
    for row in rows {
        let (weight, token, remaining): (i64, i64, i64) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        if remaining <= 0 {
            is_stale = true;
            continue;
        }
        snapshot.capacity = u32::try_from(row.try_get::<i64, _>(0)?).ok();
        let (passed, remaining) = (micros(row.try_get(4)?), micros(remaining));
        let owner = Owner::from_record(row.try_get(5)?);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        if token > 0 {
            let token = Token::new(natural(token));
            snapshot.holders.push(Holder { owner, token, weight, held_for: passed, remaining, data: None });
        } else {
            snapshot.queue.push(Waiter { owner, weight, waiting_for: passed, remaining, data: None });
        }
    }
    Ok((snapshot, is_stale))
}

/// An id as the statements take it.
pub(crate) fn id(id: LeaseId) -> String {
    id.to_hex()
}

fn grant(token: i64, ttl: i64) -> Grant {
    Grant { token: Token::new(natural(token)), ttl: micros(ttl) }
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(natural(micros))
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
