//! A resource in the file: its row, and its crowd, which are the leases of a resource that is shared or waited for.

use rlock_core::{Acquired, Place};
use rusqlite::{OptionalExtension as _, Result, Row};

use crate::request::{Id, Transaction};

/// A row that counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resource<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// The number of its leases in the table of leases, 0 if it has none there.
    pub(crate) crowd: i64,
    pub(crate) capacity: u32,
    pub(crate) last: i64,
    /// The weights that are held or rest.
    pub(crate) taken: i64,
    pub(crate) sole: Option<Sole>,
}

/// The holder in the row, if there is no crowd.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sole {
    pub(crate) id: Id,
    pub(crate) expires: i64,
}

pub(crate) const WAITS: i64 = 0;
pub(crate) const HOLDS: i64 = 1;
pub(crate) const RESTS: i64 = 2;

impl<'a> Resource<'a> {
    fn of(namespace: &'a str, name: &'a str, row: &Row<'_>) -> Result<Self> {
        let id: Option<Id> = row.get(4)?;
        let expires = row.get(5)?;
        Ok(Self {
            namespace,
            name,
            crowd: row.get(0)?,
            capacity: row.get(1)?,
            last: row.get(2)?,
            taken: row.get(3)?,
            sole: id.map(|id| Sole { id, expires }),
        })
    }

    pub(crate) fn fits(&self, weight: u32) -> bool {
        self.taken + i64::from(weight) <= i64::from(self.capacity)
    }
}

impl Transaction<'_> {
    /// The resource without what has expired, if it has a row.
    pub(crate) fn find<'a>(&mut self, namespace: &'a str, name: &'a str) -> Result<Option<Resource<'a>>> {
        const FIND: &str =
            "SELECT crowd, capacity, last, taken, id, expires FROM resources WHERE namespace = ? AND name = ?";
        let read = |row: &Row<'_>| Resource::of(namespace, name, row);
        let found = self.prepare(FIND)?.query_row((namespace, name), read).optional()?;
        let Some(mut resource) = found else { return Ok(None) };
        if resource.crowd != 0 {
            self.settle(&mut resource)?;
        } else if resource.sole.is_some_and(|sole| sole.expires <= self.now) {
            self.vacate(&mut resource)?;
        }
        Ok(Some(resource))
    }

    /// Ends the lease in the row.
    pub(crate) fn vacate(&self, resource: &mut Resource<'_>) -> Result<()> {
        const VACATE: &str = "UPDATE resources SET id = NULL, taken = 0, expires = ?3, inbox = '', owner = '', data = NULL \
             WHERE namespace = ?1 AND name = ?2";
        self.execute(VACATE, (resource.namespace, resource.name, self.now))?;
        resource.sole = None;
        resource.taken = 0;
        Ok(())
    }

    /// Moves the lease in the row to the table of leases, where others can be added.
    pub(crate) fn form_crowd(&self, resource: &mut Resource<'_>) -> Result<()> {
        const NUMBER: &str = "SELECT coalesce(max(crowd), 0) + 1 FROM leases";
        const MOVE: &str = "INSERT INTO leases (crowd, state, token, weight, expires, since, renewed, id, inbox, owner, data) \
             SELECT ?3, 1, last, taken, expires, since, renewed, id, inbox, owner, data FROM resources \
             WHERE namespace = ?1 AND name = ?2";
        const FORM: &str = "UPDATE resources SET crowd = ?3, id = NULL, inbox = '', owner = '', data = NULL \
             WHERE namespace = ?1 AND name = ?2";
        let crowd: i64 = self.prepare(NUMBER)?.query_row([], |row| row.get(0))?;
        self.execute(MOVE, (resource.namespace, resource.name, crowd))?;
        self.execute(FORM, (resource.namespace, resource.name, crowd))?;
        resource.crowd = crowd;
        resource.sole = None;
        Ok(())
    }

    /// Drops expired leases and rests of a crowd, and grants the waiters that then fit.
    fn settle(&mut self, resource: &mut Resource<'_>) -> Result<()> {
        const IS_STALE: &str = "SELECT EXISTS (SELECT 1 FROM leases WHERE crowd = ?1 AND state = 0 AND expires <= ?2) \
             OR EXISTS (SELECT 1 FROM leases WHERE crowd = ?1 AND state = 1 AND expires <= ?2) \
             OR EXISTS (SELECT 1 FROM leases WHERE crowd = ?1 AND state = 2 AND expires <= ?2)";
        const DROP: &str = "DELETE FROM leases WHERE crowd = ? AND state IN (0, 1, 2) AND expires <= ? \
             RETURNING CASE state WHEN 0 THEN 0 ELSE weight END";
        let is_stale: bool = self.prepare(IS_STALE)?.query_row((resource.crowd, self.now), |row| row.get(0))?;
        // A grace held waiters back, which nothing else grants when it is over.
        if is_stale || self.opens > 0 {
            let freed = self
                .prepare(DROP)?
                .query_map((resource.crowd, self.now), |row| row.get::<_, i64>(0))?
                .sum::<Result<i64>>()?;
            resource.taken -= freed;
            self.grant_waiters(resource)?;
        }
        Ok(())
    }

    /// Grants from the head of the queue as far as the capacity goes, and writes the row.
    pub(crate) fn grant_waiters(&mut self, resource: &mut Resource<'_>) -> Result<()> {
        const HEAD: &str = "SELECT nr, id, inbox, weight FROM leases WHERE crowd = ? AND state = 0 ORDER BY nr LIMIT 1";
        const GRANT: &str = "UPDATE leases SET state = 1, token = ?, since = ? WHERE nr = ?";
        const IS_LEFT: &str = "SELECT EXISTS (SELECT 1 FROM leases WHERE crowd = ?)";
        while self.opens <= self.now {
            let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get(3)?));
            let head = self.prepare(HEAD)?.query_row([resource.crowd], read).optional()?;
            let Some((nr, id, inbox, weight)) = head.filter(|head| resource.fits(head.3)) else { break };
            resource.last = Self::token_after(resource.last);
            resource.taken += i64::from(weight);
            self.execute(GRANT, (resource.last, self.now, nr))?;
            self.notify(&inbox, id, resource.last)?;
        }
        if !self.prepare(IS_LEFT)?.query_row([resource.crowd], |row| row.get::<_, bool>(0))? {
            resource.crowd = 0;
        }
        self.write(resource)
    }

    /// Writes what the crowd has changed in the row.
    pub(crate) fn write(&self, resource: &Resource<'_>) -> Result<()> {
        const WRITE: &str = "UPDATE resources SET crowd = ?3, capacity = ?4, last = ?5, taken = ?6, expires = ?7 \
             WHERE namespace = ?1 AND name = ?2";
        let Resource { namespace, name, crowd, capacity, last, taken, .. } = *resource;
        self.execute(WRITE, (namespace, name, crowd, capacity, last, taken, self.now)).map(drop)
    }

    /// The state of a lease of a crowd, if it is there.
    pub(crate) fn standing(&self, crowd: i64, id: Id) -> Result<Option<Acquired>> {
        const FIND: &str = "SELECT nr, state, token, expires FROM leases WHERE crowd = ? AND id = ?";
        // The waiters in front: exact up to a hundred, and above that an upper bound, as `nr` numbers the leases of all
        // resources. Then the end of the waiter in front, or of the first holder or rest.
        const PLACE: &str = "SELECT (SELECT \
             count(*) + coalesce(min(nr) - (SELECT min(nr) FROM leases WHERE crowd = ?1 AND state = 0), 0) FROM \
             (SELECT nr FROM leases WHERE crowd = ?1 AND state = 0 AND nr < ?2 ORDER BY nr DESC LIMIT 100)), \
             coalesce((SELECT expires FROM leases WHERE crowd = ?1 AND state = 0 AND nr < ?2 ORDER BY nr DESC LIMIT 1), \
             min(coalesce((SELECT min(expires) FROM leases WHERE crowd = ?1 AND state = 1), 9000000000000000000), \
             coalesce((SELECT min(expires) FROM leases WHERE crowd = ?1 AND state = 2), 9000000000000000000)))";
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        let found: Option<(i64, i64, i64, i64)> = self.prepare(FIND)?.query_row((crowd, id), read).optional()?;
        let Some((nr, state, token, expires)) = found else { return Ok(None) };
        if state == HOLDS {
            return Ok(Some(Acquired::Held(self.grant(token, expires))));
        }
        let (ahead, blocked): (i64, i64) =
            self.prepare(PLACE)?.query_row((crowd, nr), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let ask_again = self.until(blocked.max(self.opens));
        Ok(Some(Acquired::Queued(Place { ahead: ahead.unsigned_abs(), ask_again })))
    }
}
