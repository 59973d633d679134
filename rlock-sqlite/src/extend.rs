//! Extensions.

use rlock_core::{Acquired, Extended, Extension};
use rusqlite::{OptionalExtension as _, Result};

use crate::request::{Id, Transaction};
use crate::resource::HOLDS;

impl Transaction<'_> {
    pub(crate) fn extend(&mut self, extension: &Extension) -> Result<Extended> {
        // The usual case.
        const EXTEND_SOLE: &str = "UPDATE resources SET expires = max(expires, ?4), renewed = ?5 \
             WHERE namespace = ?1 AND name = ?2 AND id = ?3 AND expires > ?5 RETURNING last, expires";
        // A rest has no id. A condition on the state would make SQLite read the whole crowd, by another index.
        const EXTEND: &str = "UPDATE leases SET expires = max(expires, ?3), renewed = ?4 WHERE crowd = ?1 AND id = ?2";
        let (namespace, name, id) = (self.namespace, extension.key.resource.as_str(), Id(extension.key.id));
        let expires = self.after(extension.ttl.get());
        let sole = (namespace, name, id, expires, self.now);
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let extended = self.prepare(EXTEND_SOLE)?.query_row(sole, read).optional()?;
        if let Some((token, expires)) = extended {
            return Ok(Extended::Held(self.grant(token, expires)));
        }
        let Some(resource) = self.find(namespace, name)? else { return Ok(Extended::Gone { taken: false }) };
        if resource.crowd == 0 {
            return Ok(Extended::Gone { taken: resource.sole.is_some() });
        }
        self.execute(EXTEND, (resource.crowd, id, expires, self.now))?;
        Ok(match self.standing(resource.crowd, id)? {
            Some(Acquired::Held(grant)) => Extended::Held(grant),
            Some(Acquired::Queued(place)) => Extended::Queued(place),
            Some(Acquired::Busy) | None => Extended::Gone { taken: self.is_held(resource.crowd)? },
        })
    }

    fn is_held(&self, crowd: i64) -> Result<bool> {
        const IS_HELD: &str = "SELECT EXISTS (SELECT 1 FROM leases WHERE crowd = ? AND state = ?)";
        self.prepare(IS_HELD)?.query_row((crowd, HOLDS), |row| row.get(0))
    }
}
