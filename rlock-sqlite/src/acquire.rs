//! Claims.

use rlock_core::{Acquired, Claim, IfBusy, LeaseData};
use rusqlite::{Result, params};

use crate::request::{Answer, Id, Transaction};
use crate::resource::{HOLDS, Resource, WAITS};

impl Transaction<'_> {
    pub(crate) fn acquire(&mut self, claim: &Claim) -> Result<Answer> {
        let (namespace, id) = (self.namespace, Id(claim.key.id));
        let Some(mut resource) = self.find(namespace, claim.key.resource.as_str())? else {
            return self.early().map_or_else(|| self.take_new(claim), Ok);
        };
        if let Some(acquired) = self.standing_of(&resource, id)? {
            return Ok(Answer::Acquired(acquired));
        }
        let is_free = resource.sole.is_none() && resource.crowd == 0;
        if !is_free && resource.capacity != claim.share.capacity() {
            return Ok(Answer::OtherCapacity(resource.capacity));
        }
        if let Some(early) = self.early() {
            return Ok(early);
        }
        if is_free {
            return self.take(&resource, claim);
        }
        let is_granted = resource.fits(claim.share.weight()) && !self.is_queue(resource.crowd)?;
        if !is_granted && claim.if_busy == IfBusy::Refuse {
            return Ok(Answer::Acquired(Acquired::Busy));
        }
        if resource.crowd == 0 {
            self.form_crowd(&mut resource)?;
        }
        self.join(&mut resource, claim, is_granted)?;
        let standing = self.standing(resource.crowd, id)?;
        standing.map(Answer::Acquired).ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    fn early(&self) -> Option<Answer> {
        let left = self.until(self.opens);
        (!left.is_zero()).then_some(Answer::Early(left))
    }

    /// The state of a lease that may be there.
    pub(crate) fn standing_of(&self, resource: &Resource<'_>, id: Id) -> Result<Option<Acquired>> {
        match resource.sole {
            Some(sole) if sole.id == id => Ok(Some(Acquired::Held(self.grant(resource.last, sole.expires)))),
            Some(_) => Ok(None),
            None if resource.crowd != 0 => self.standing(resource.crowd, id),
            None => Ok(None),
        }
    }

    fn is_queue(&self, crowd: i64) -> Result<bool> {
        const IS_QUEUE: &str = "SELECT EXISTS (SELECT 1 FROM leases WHERE crowd = ? AND state = 0)";
        if crowd == 0 { Ok(false) } else { self.prepare(IS_QUEUE)?.query_row([crowd], |row| row.get(0)) }
    }

    /// Takes a resource that has no row.
    fn take_new(&self, claim: &Claim) -> Result<Answer> {
        const LAST: &str = "SELECT last FROM state";
        const INSERT: &str = "INSERT INTO resources \
             (namespace, name, crowd, capacity, last, taken, expires, since, renewed, id, inbox, owner, data) \
             VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?7, ?8, ?9, ?10, ?11)";
        let last = self.prepare(LAST)?.query_row([], |row| row.get(0))?;
        self.hold(INSERT, last, claim)
    }

    /// Takes a resource that has a row and is free.
    fn take(&self, resource: &Resource<'_>, claim: &Claim) -> Result<Answer> {
        const UPDATE: &str = "UPDATE resources SET crowd = 0, capacity = ?3, last = ?4, taken = ?5, expires = ?6, since = ?7, \
             renewed = ?7, id = ?8, inbox = ?9, owner = ?10, data = ?11 WHERE namespace = ?1 AND name = ?2";
        self.hold(UPDATE, resource.last, claim)
    }

    /// Writes a holder to the row of a resource whose last token is `last`.
    fn hold(&self, sql: &str, last: i64, claim: &Claim) -> Result<Answer> {
        let (token, expires) = (Self::token_after(last), self.after(claim.ttl.get()));
        self.prepare(sql)?.execute(params![
            self.namespace,
            claim.key.resource.as_str(),
            claim.share.capacity(),
            token,
            claim.share.weight(),
            expires,
            self.now,
            Id(claim.key.id),
            self.inbox,
            claim.owner.to_record(),
            claim.data.as_ref().map(LeaseData::as_bytes),
        ])?;
        Ok(Answer::Acquired(Acquired::Held(self.grant(token, expires))))
    }

    /// Adds a lease to a crowd.
    fn join(&self, resource: &mut Resource<'_>, claim: &Claim, is_granted: bool) -> Result<()> {
        const ADD: &str = "INSERT INTO leases (crowd, state, token, weight, expires, since, renewed, id, inbox, owner, data) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10)";
        let (mut state, mut token, weight) = (WAITS, 0, claim.share.weight());
        if is_granted {
            resource.last = Self::token_after(resource.last);
            resource.taken += i64::from(weight);
            (state, token) = (HOLDS, resource.last);
            self.write(resource)?;
        }
        let (expires, data) = (self.after(claim.ttl.get()), claim.data.as_ref().map(LeaseData::as_bytes));
        let (id, owner) = (Id(claim.key.id), claim.owner.to_record());
        let row = (resource.crowd, state, token, weight, expires, self.now, id, self.inbox, owner, data);
        self.execute(ADD, row).map(drop)
    }
}
