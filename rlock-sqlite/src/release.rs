//! Releases, with and without a rest, and breaks.

use rlock_core::{Release, Released};
use rusqlite::{OptionalExtension as _, Result, Row};

use crate::request::{Id, Transaction};
use crate::resource::{RESTS, WAITS};

impl Transaction<'_> {
    pub(crate) fn release(&mut self, release: &Release) -> Result<Released> {
        // The usual case.
        const RELEASE_SOLE: &str = "UPDATE resources SET id = NULL, taken = 0, expires = ?4, inbox = '', owner = '', data = NULL \
             WHERE namespace = ?1 AND name = ?2 AND id = ?3 AND expires > ?4";
        const TAKE_OUT: &str = "DELETE FROM leases WHERE crowd = ? AND id = ? RETURNING state, weight";
        let (namespace, name, id) = (self.namespace, release.key.resource.as_str(), Id(release.key.id));
        if release.rest.is_zero() && self.execute(RELEASE_SOLE, (namespace, name, id, self.now))? > 0 {
            return Ok(Released::Released);
        }
        let Some(mut resource) = self.find(namespace, name)? else { return Ok(Released::Absent) };
        if resource.sole.is_some_and(|sole| sole.id == id) {
            self.form_crowd(&mut resource)?;
        }
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let found: Option<(i64, i64)> = self.prepare(TAKE_OUT)?.query_row((resource.crowd, id), read).optional()?;
        let Some((state, weight)) = found else { return Ok(Released::Absent) };
        if state == WAITS {
            // Behind it a lighter one may fit.
        } else if release.rest.is_zero() {
            resource.taken -= weight;
        } else {
            self.rest(resource.crowd, weight, self.after(release.rest))?;
        }
        self.grant_waiters(&mut resource)?;
        Ok(Released::Released)
    }

    /// Keeps a share taken for a time.
    fn rest(&self, crowd: i64, weight: i64, until: i64) -> Result<()> {
        const REST: &str = "INSERT INTO leases (crowd, state, token, weight, expires, since, renewed, id, inbox, owner) \
             VALUES (?1, ?2, 0, ?3, ?4, ?5, ?5, x'', '', '')";
        self.execute(REST, (crowd, RESTS, weight, until, self.now)).map(drop)
    }

    /// Ends all held leases and rests.
    pub(crate) fn break_leases(&mut self, name: &str) -> Result<u64> {
        const SOLE: &str = "SELECT id, inbox FROM resources WHERE namespace = ? AND name = ?";
        const BREAK: &str = "DELETE FROM leases WHERE crowd = ? AND state IN (1, 2) RETURNING state, id, inbox";
        let namespace = self.namespace;
        let Some(mut resource) = self.find(namespace, name)? else { return Ok(0) };
        let mut broken: Vec<(Id, String)> = Vec::new();
        if resource.sole.is_some() {
            broken.push(self.prepare(SOLE)?.query_row((namespace, name), |row| Ok((row.get(0)?, row.get(1)?)))?);
            self.vacate(&mut resource)?;
        } else if resource.crowd != 0 {
            let mut statement = self.conn.prepare_cached(BREAK)?;
            let mut rows = statement.query([resource.crowd])?;
            while let Some(row) = rows.next()? {
                if row.get::<_, i64>(0)? != RESTS {
                    broken.push((row.get(1)?, row.get(2)?));
                }
            }
        }
        for (id, inbox) in &broken {
            self.notify(inbox, *id, 0)?;
        }
        if resource.crowd != 0 {
            resource.taken = 0;
            self.grant_waiters(&mut resource)?;
        }
        Ok(broken.len() as u64)
    }
}
