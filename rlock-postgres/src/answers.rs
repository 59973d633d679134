//! Reads the answers to the statements.

use std::time::Duration;

use rlock_core::{
    Acquired, Extended, Grant, Holder, LeaseData, Owner, Place, Released, ResourceName, Snapshot, Token, Waiter,
};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

/// The answer to an operation, as sql/change.sql returns it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    what: i64,
    x: i64,
    y: i64,
}

const LATE: i64 = 0;
const HELD: i64 = 1;
const QUEUED: i64 = 2;
const BUSY: i64 = 3;
const MISMATCH: i64 = 4;
const GONE: i64 = 5;
const RELEASED: i64 = 6;
const ABSENT: i64 = 7;
const DONE: i64 = 8;
const EARLY: i64 = 11;

/// A claim's answer, or the other capacity that refuses it.
pub(crate) enum Claimed {
    Acquired(Acquired),
    OtherCapacity(u32),
}

impl Answer {
    /// Reads the row of a call: the answers to its operations, and whether notifications were left out. `None` if the
    /// server undid the call, because its deadline had passed.
    pub(crate) fn read(rows: &[PgRow], operations: usize) -> sqlx::Result<Option<(Vec<Self>, bool)>> {
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let column = |at: usize| row.try_get::<Vec<i64>, _>(at);
        let (whats, xs, ys) = (column(0)?, column(1)?, column(2)?);
        let answers: Vec<_> = whats.into_iter().zip(xs).zip(ys).map(|((what, x), y)| Self { what, x, y }).collect();
        if answers.is_empty() {
            return Ok(None);
        }
        if answers.len() != operations {
            return Err(sqlx::Error::Decode("the numbers of answers and operations differ".into()));
        }
        Ok(Some((answers, row.try_get(3)?)))
    }

    /// Whether other sessions changed the row during the operation.
    pub(crate) fn is_late(self) -> bool {
        self.what == LATE
    }

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

    /// The time until the tables are old enough for claims, if they are not.
    pub(crate) fn is_early_by(self) -> Option<Duration> {
        (self.what == EARLY).then(|| micros(self.x))
    }

    /// The number of leases that were broken.
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

/// Reads the rows of sql/inspect.sql, and whether leases have to be dropped or granted.
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
        let Some(owner) = row.try_get::<Option<&str>, _>(5)? else {
            snapshot.rest = snapshot.rest.max(Some(remaining));
            continue;
        };
        let owner = Owner::from_record(owner);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let data = row.try_get::<Option<Vec<u8>>, _>(6)?.and_then(|data| LeaseData::new(data).ok());
        if token > 0 {
            let token = Token::new(natural(token));
            snapshot.holders.push(Holder { owner, token, weight, held_for: passed, remaining, data });
        } else {
            snapshot.queue.push(Waiter { owner, weight, waiting_for: passed, remaining, data });
        }
    }
    Ok((snapshot, is_stale))
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
