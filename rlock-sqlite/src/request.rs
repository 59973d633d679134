//! Operations on the file, their answers, and the transaction that they are done in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rlock_core::{
    Acquired, Claim, Event, Extended, Extension, Grant, LeaseId, ListFilter, Page, Release, Released, ResourceName,
    Snapshot, Token,
};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, Params, Result};

/// A request.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Acquire(Claim),
    Extend(Extension),
    Release(Release),
    Inspect(ResourceName),
    List(ListFilter),
    Break(ResourceName),
    /// Of SQLite.
    Version,
}

/// The outcome of an operation.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Acquired(Acquired),
    /// Live leases have this capacity.
    OtherCapacity(u32),
    /// Nothing is granted for this long.
    Early(Duration),
    Extended(Extended),
    Released(Released),
    Inspected(Snapshot),
    Listed(Page),
    Broken(u64),
    Version(String),
}

/// A transaction of one client. Each operation has a file of this crate.
#[derive(Debug)]
pub(crate) struct Transaction<'c> {
    pub(crate) conn: &'c Connection,
    pub(crate) namespace: &'c str,
    pub(crate) inbox: &'c str,
    /// In µs of the host's clock, as all times here.
    pub(crate) now: i64,
    /// Nothing is granted before.
    pub(crate) opens: i64,
    /// For this client.
    pub(crate) events: Vec<Event>,
    /// Whether there is mail for others.
    pub(crate) is_mail: bool,
}

impl Transaction<'_> {
    pub(crate) fn run(&mut self, operation: &Operation) -> Result<Answer> {
        Ok(match operation {
            Operation::Acquire(claim) => self.acquire(claim)?,
            Operation::Extend(extension) => Answer::Extended(self.extend(extension)?),
            Operation::Release(release) => Answer::Released(self.release(release)?),
            Operation::Inspect(resource) => Answer::Inspected(self.inspect(resource)?),
            Operation::List(filter) => Answer::Listed(self.list(filter)?),
            Operation::Break(resource) => Answer::Broken(self.break_leases(resource.as_str())?),
            Operation::Version => Answer::Version(rusqlite::version().to_owned()),
        })
    }

    pub(crate) fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.conn.prepare_cached(sql)
    }

    pub(crate) fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.prepare(sql)?.execute(params)
    }

    /// Greater than all tokens before, in this file and in one that was deleted, unless the host's clock was set back.
    pub(crate) fn token_after(last: i64) -> i64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        i64::try_from(wall).unwrap_or_default().max(last + 1)
    }

    pub(crate) fn after(&self, time: Duration) -> i64 {
        self.now.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
    }

    pub(crate) fn until(&self, then: i64) -> Duration {
        Duration::from_micros(u64::try_from(then - self.now).unwrap_or_default())
    }

    pub(crate) fn since(&self, then: i64) -> Duration {
        Duration::from_micros(u64::try_from(self.now - then).unwrap_or_default())
    }

    pub(crate) fn grant(&self, token: i64, expires: i64) -> Grant {
        Grant { token: as_token(token), ttl: self.until(expires) }
    }
}

pub(crate) fn as_token(token: i64) -> Token {
    Token::new(token.unsigned_abs())
}

/// The id of a lease as the file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(pub(crate) LeaseId);

impl ToSql for Id {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Blob(self.0.as_u128().to_be_bytes().to_vec())))
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?.try_into().map_err(|_| FromSqlError::InvalidType)?;
        Ok(Self(LeaseId::from_u128(u128::from_be_bytes(bytes))))
    }
}
