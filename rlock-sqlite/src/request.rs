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

/// The answer to an operation.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rlock_core::{Cursor, IfBusy, LeaseKey, Owner, Share, Ttl};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(100);
    /// More than the waiters that are counted for a place.
    const FEW: u32 = 150;
    const MANY: u32 = 2_000;

    #[test]
    fn shared_lease_costs_the_same_beside_many() {
        let share = Share::new(1, 2 * MANY).unwrap();
        compare(|leases| {
            let dead = [claim("x", 0, share, SHORT)];
            let made = dead.into_iter().chain((1..=leases).map(|id| claim("x", id, share, LONG))).collect();
            let newcomer = leases + 1;
            let measured = vec![
                ("an expiry", extend("x", 1)),
                ("an extension", extend("x", leases / 2)),
                ("a claim", claim("x", newcomer, share, LONG)),
                ("a release", release("x", newcomer)),
            ];
            (made, measured)
        });
    }

    #[test]
    fn queue_costs_the_same_however_long() {
        compare(|waiters| {
            let queue = |name: &str, id, ttl| claim(name, id, Share::EXCLUSIVE, ttl);
            let first = [queue("x", 0, LONG), queue("x", 1, SHORT), queue("y", 0, LONG)];
            let live = (2..=waiters).map(|id| queue("x", id, LONG));
            let newcomer = waiters + 1;
            let measured = vec![
                ("an expiry", extend("x", waiters / 2)),
                ("an extension of a waiter", extend("x", waiters)),
                ("an extension of the holder", extend("x", 0)),
                ("joining the queue", queue("x", newcomer, LONG)),
                ("leaving the queue", release("x", newcomer)),
                ("a hand-over", release("x", 0)),
                ("the first claim that waits elsewhere", queue("y", 1, LONG)),
            ];
            (first.into_iter().chain(live).collect(), measured)
        });
    }

    #[test]
    fn page_costs_the_same_wherever_it_begins() {
        compare(|resources| {
            let hold = |prefix: &str, id: u32| claim(&format!("{prefix}/{id:05}"), id, Share::EXCLUSIVE, LONG);
            let made = (0..resources).map(|id| hold("a", id)).chain((0..20).map(|id| hold("b", id))).collect();
            let page =
                |prefix: &str, after| Operation::List(ListFilter { prefix: prefix.to_owned(), after, limit: 10 });
            let late = Cursor(format!("a/{:05}", resources - 20));
            (made, vec![("a first page", page("b/", None)), ("a late page", page("a/", Some(late)))])
        });
    }

    /// Compares the steps of operations in files with few leases and with many. `operations` returns those that make the
    /// leases, and those that are measured a second later.
    fn compare(operations: impl Fn(u32) -> (Vec<Operation>, Vec<(&'static str, Operation)>)) {
        let [few, many] = [FEW, MANY].map(|leases| {
            let (made, measured) = operations(leases);
            steps(&made, &measured)
        });
        for ((what, few), (_, many)) in few.into_iter().zip(many) {
            assert!(many <= 2 * few, "{what} takes {few} steps beside {FEW} leases, and {many} beside {MANY}");
        }
    }

    /// Counts the steps of SQLite's virtual machine.
    fn steps(made: &[Operation], measured: &[(&'static str, Operation)]) -> Vec<(&'static str, u64)> {
        let conn = Connection::open_in_memory().unwrap();
        conn.set_prepared_statement_cache_capacity(64);
        conn.execute_batch(include_str!("sql/schema.sql")).unwrap();
        let mut transaction =
            Transaction { conn: &conn, namespace: "", inbox: "", now: 1, opens: 0, events: Vec::new(), is_mail: false };
        for operation in made {
            transaction.run(operation).unwrap();
        }
        transaction.now = transaction.after(Duration::from_secs(1));
        let counter = Arc::new(AtomicU64::new(0));
        let counted = counter.clone();
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            false
        };
        conn.progress_handler(1, Some(count)).unwrap();
        let mut steps = Vec::new();
        for (what, operation) in measured {
            counter.store(0, Ordering::Relaxed);
            let answer = transaction.run(operation).unwrap();
            steps.push((*what, counter.load(Ordering::Relaxed)));
            let is_gone = matches!(
                answer,
                Answer::Extended(Extended::Gone { .. })
                    | Answer::Released(Released::Absent)
                    | Answer::OtherCapacity(_)
                    | Answer::Listed(Page { next: None, .. })
            );
            assert!(!is_gone, "{what}: {answer:?}");
        }
        steps
    }

    fn claim(name: &str, id: u32, share: Share, ttl: Duration) -> Operation {
        let (ttl, owner) = (Ttl::new(ttl).unwrap(), Arc::new(Owner::current()));
        Operation::Acquire(Claim { key: key(name, id), share, ttl, if_busy: IfBusy::Queue, owner, data: None })
    }

    fn extend(name: &str, id: u32) -> Operation {
        Operation::Extend(Extension { key: key(name, id), ttl: Ttl::new(LONG).unwrap() })
    }

    fn release(name: &str, id: u32) -> Operation {
        Operation::Release(Release::from(key(name, id)))
    }

    fn key(name: &str, id: u32) -> LeaseKey {
        LeaseKey { resource: ResourceName::new(name).unwrap(), id: LeaseId::from_u128(id.into()) }
    }
}
