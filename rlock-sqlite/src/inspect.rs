//! Snapshots of a resource.

use std::time::Duration;

use rlock_core::{Holder, LeaseData, Owner, ResourceName, Snapshot, Waiter};
use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};

use crate::request::{Transaction, as_token};
use crate::resource::{HOLDS, WAITS};

/// A lease as snapshots show it.
struct Shown {
    state: i64,
    weight: u32,
    token: i64,
    expires: i64,
    since: i64,
    owner: Owner,
    data: Option<LeaseData>,
}

impl Shown {
    fn of(row: &Row<'_>) -> Result<Self> {
        let data: Option<Vec<u8>> = row.get(6)?;
        let data = data.map(LeaseData::new).transpose();
        Ok(Self {
            state: row.get(0)?,
            weight: row.get(1)?,
            token: row.get(2)?,
            expires: row.get(3)?,
            since: row.get(4)?,
            owner: Owner::from_record(row.get_ref(5)?.as_str()?),
            data: data.map_err(|error| Error::FromSqlConversionFailure(6, Type::Blob, error.into()))?,
        })
    }
}

impl Transaction<'_> {
    pub(crate) fn inspect(&mut self, name: &ResourceName) -> Result<Snapshot> {
        const SOLE: &str =
            "SELECT 1, taken, last, expires, since, owner, data FROM resources WHERE namespace = ? AND name = ?";
        const CROWD: &str = "SELECT state, weight, token, expires, since, owner, data FROM leases \
             WHERE crowd = ? ORDER BY state, token, nr";
        let mut snapshot =
            Snapshot { resource: name.clone(), capacity: None, holders: Vec::new(), queue: Vec::new(), rest: None };
        let namespace = self.namespace;
        let Some(resource) = self.find(namespace, name.as_str())? else { return Ok(snapshot) };
        let leases = if resource.sole.is_some() {
            vec![self.prepare(SOLE)?.query_row((namespace, name.as_str()), Shown::of)?]
        } else if resource.crowd != 0 {
            self.prepare(CROWD)?.query_map([resource.crowd], Shown::of)?.collect::<Result<Vec<_>>>()?
        } else {
            return Ok(snapshot);
        };
        snapshot.capacity = Some(resource.capacity);
        for Shown { state, weight, token, expires, since, owner, data } in leases {
            let (remaining, passed) = (self.until(expires), self.since(since));
            if state == HOLDS {
                let token = as_token(token);
                snapshot.holders.push(Holder { owner, token, weight, held_for: passed, remaining, data });
            } else if state == WAITS {
                snapshot.queue.push(Waiter { owner, weight, waiting_for: passed, remaining, data });
            } else {
                snapshot.rest = Some(remaining.max(snapshot.rest.unwrap_or(Duration::ZERO)));
            }
        }
        Ok(snapshot)
    }
}
