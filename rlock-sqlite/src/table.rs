//! The contract, on the rows of one transaction.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rlock_core::{
    Acquired, Claim, Cursor, Entry, Event, Extended, Extension, Grant, Holder, IfBusy, LeaseId, LeaseKey, ListFilter,
    Moment, Owner, Page, Place, Released, ResourceName, Snapshot, Token, Waiter,
};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row as _, query, query_scalar};

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Acquire(Claim),
    Extend(Extension),
    Release(LeaseKey),
    Inspect(ResourceName),
    List(ListFilter),
    Break(ResourceName),
    /// Of SQLite.
    Version,
}

impl Operation {
    /// Whose expired leases have to be out of the way before. A claim looks for them itself.
    fn resource_to_expire(&self) -> Option<&ResourceName> {
        match self {
            Self::Extend(extension) => Some(&extension.key.resource),
            Self::Release(lease) => Some(&lease.resource),
            Self::Inspect(resource) | Self::Break(resource) => Some(resource),
            Self::Acquire(_) | Self::List(_) | Self::Version => None,
        }
    }
}

/// What has come of it.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Acquired(Acquired),
    /// Live leases have this capacity.
    OtherCapacity(u32),
    /// Nothing is claimed for so long.
    Early(Duration),
    Extended(Extended),
    Released(Released),
    Inspected(Snapshot),
    Listed(Page),
    Broken(u64),
    Version(String),
}

/// How long a lease lies around that has expired, or a message, in µs. Its client has died.
const LONGEST_UNUSED: i64 = 60_000_000;
/// How many at a time: meanwhile nobody else can write.
const MOST_SWEPT: i64 = 256;
const LONGEST_PAGE: u32 = 1_000;

/// The rows, for a client, in a transaction.
#[derive(Debug)]
pub(crate) struct Table<'c> {
    pub(crate) conn: &'c mut SqliteConnection,
    pub(crate) namespace: Arc<str>,
    pub(crate) inbox: Arc<str>,
    pub(crate) now: Moment,
    /// For this client.
    pub(crate) events: Vec<Event>,
    /// Whether there is mail for others.
    pub(crate) is_mail: bool,
}

impl Table<'_> {
    /// Drops what has expired long ago, and what nobody reads.
    pub(crate) async fn sweep(&mut self) -> sqlx::Result<()> {
        const DROP: &str = "DELETE FROM leases WHERE nr IN (SELECT nr FROM leases WHERE expires < ? LIMIT ?) \
             RETURNING namespace, name";
        const FORGET: &str = "DELETE FROM mail WHERE rowid IN (SELECT rowid FROM mail WHERE sent < ? LIMIT ?)";
        let before = micros(self.now) - LONGEST_UNUSED;
        for row in query(DROP).bind(before).bind(MOST_SWEPT).fetch_all(&mut *self.conn).await? {
            self.settle(row.try_get(0)?, row.try_get(1)?).await?;
        }
        query(FORGET).bind(before).bind(MOST_SWEPT).execute(&mut *self.conn).await.map(drop)
    }

    /// Drops what has expired of a resource, and grants what that makes room for.
    async fn expire(&mut self, name: &str) -> sqlx::Result<()> {
        const DROP: &str = "DELETE FROM leases WHERE namespace = ? AND name = ? AND expires <= ?";
        let namespace = self.namespace.clone();
        let dropped = query(DROP).bind(&*namespace).bind(name).bind(micros(self.now)).execute(&mut *self.conn).await?;
        if dropped.rows_affected() > 0 { self.settle(&namespace, name).await } else { Ok(()) }
    }

    /// Reads what others have told this client.
    pub(crate) async fn collect(&mut self) -> sqlx::Result<()> {
        const COLLECT: &str = "DELETE FROM mail WHERE inbox = ? RETURNING id, token, rowid";
        let mut rows = query(COLLECT).bind(&*self.inbox).fetch_all(&mut *self.conn).await?;
        rows.sort_by_key(|row| row.get::<i64, _>(2));
        for row in rows {
            let (id, token) = (lease_id(&row, 0)?, row.try_get(1)?);
            self.events.push(event(id, token));
        }
        Ok(())
    }

    pub(crate) async fn run(&mut self, operation: &Operation) -> sqlx::Result<Answer> {
        if let Some(resource) = operation.resource_to_expire() {
            self.expire(resource.as_str()).await?;
        }
        Ok(match operation {
            Operation::Acquire(claim) => self.acquire(claim).await?,
            Operation::Extend(extension) => Answer::Extended(self.extend(extension).await?),
            Operation::Release(lease) => Answer::Released(self.release(lease).await?),
            Operation::Inspect(resource) => Answer::Inspected(self.inspect(resource).await?),
            Operation::List(filter) => Answer::Listed(self.list(filter).await?),
            Operation::Break(resource) => Answer::Broken(self.break_leases(resource).await?),
            Operation::Version => {
                Answer::Version(query_scalar("SELECT sqlite_version()").fetch_one(&mut *self.conn).await?)
            }
        })
    }

    async fn acquire(&mut self, claim: &Claim) -> sqlx::Result<Answer> {
        const LOOK: &str = "SELECT max(capacity), coalesce(sum(weight) FILTER (WHERE token > 0), 0), \
             coalesce(max(token = 0), FALSE), coalesce(max(expires <= ?3), FALSE), coalesce(max(id = ?4), FALSE), \
             (SELECT opens FROM state) FROM leases WHERE namespace = ?1 AND name = ?2";
        const ADD: &str = "INSERT INTO leases (namespace, name, id, weight, capacity, token, expires, since, inbox, owner) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let name = claim.key.resource.as_str();
        let id = claim.key.id.as_u128().to_be_bytes().to_vec();
        let look = async |this: &mut Self| {
            let look = query(LOOK).bind(&*this.namespace).bind(name).bind(micros(this.now)).bind(&id);
            look.fetch_one(&mut *this.conn).await
        };
        let mut seen = look(self).await?;
        let is_stale: bool = seen.try_get(3)?;
        if is_stale {
            self.expire(name).await?;
            seen = look(self).await?;
        }
        let is_there: bool = seen.try_get(4)?;
        if is_there && let Some(acquired) = self.standing(&claim.key).await? {
            return Ok(Answer::Acquired(acquired));
        }
        let (capacity, taken, is_queue): (Option<u32>, i64, bool) =
            (seen.try_get(0)?, seen.try_get(1)?, seen.try_get(2)?);
        if let Some(actual) = capacity.filter(|&actual| actual != claim.share.capacity()) {
            return Ok(Answer::OtherCapacity(actual));
        }
        let early = self.until(seen.try_get(5)?);
        if !early.is_zero() {
            return Ok(Answer::Early(early));
        }
        let fits = taken + i64::from(claim.share.weight()) <= i64::from(claim.share.capacity());
        let token = match (fits && !is_queue, claim.if_busy) {
            (true, _) => self.next_token().await?,
            (false, IfBusy::Queue) => 0,
            (false, IfBusy::Refuse) => return Ok(Answer::Acquired(Acquired::Busy)),
        };
        query(ADD)
            .bind(&*self.namespace)
            .bind(name)
            .bind(&id)
            .bind(claim.share.weight())
            .bind(claim.share.capacity())
            .bind(token)
            .bind(micros(self.now.after(claim.ttl.get())))
            .bind(micros(self.now))
            .bind(&*self.inbox)
            .bind(claim.owner.to_record())
            .execute(&mut *self.conn)
            .await?;
        if token > 0 {
            return Ok(Answer::Acquired(Acquired::Held(Grant { token: as_token(token), ttl: claim.ttl.get() })));
        }
        let standing = self.standing(&claim.key).await?;
        Ok(Answer::Acquired(standing.ok_or(sqlx::Error::RowNotFound)?))
    }

    async fn extend(&mut self, extension: &Extension) -> sqlx::Result<Extended> {
        const EXTEND: &str =
            "UPDATE leases SET expires = max(expires, ?4) WHERE namespace = ?1 AND name = ?2 AND id = ?3";
        const IS_HELD: &str = "SELECT EXISTS (SELECT 1 FROM leases WHERE namespace = ? AND name = ? AND token > 0)";
        let key = &extension.key;
        query(EXTEND)
            .bind(&*self.namespace)
            .bind(key.resource.as_str())
            .bind(key.id.as_u128().to_be_bytes().to_vec())
            .bind(micros(self.now.after(extension.ttl.get())))
            .execute(&mut *self.conn)
            .await?;
        Ok(match self.standing(key).await? {
            Some(Acquired::Held(grant)) => Extended::Held(grant),
            Some(Acquired::Queued(place)) => Extended::Queued(place),
            Some(Acquired::Busy) | None => {
                let is_held = query(IS_HELD).bind(&*self.namespace).bind(key.resource.as_str());
                Extended::Gone { taken: is_held.fetch_one(&mut *self.conn).await?.try_get(0)? }
            }
        })
    }

    async fn release(&mut self, lease: &LeaseKey) -> sqlx::Result<Released> {
        const RELEASE: &str = "DELETE FROM leases WHERE namespace = ? AND name = ? AND id = ?";
        let namespace = self.namespace.clone();
        let released = query(RELEASE)
            .bind(&*namespace)
            .bind(lease.resource.as_str())
            .bind(lease.id.as_u128().to_be_bytes().to_vec())
            .execute(&mut *self.conn)
            .await?;
        if released.rows_affected() == 0 {
            return Ok(Released::Absent);
        }
        self.settle(&namespace, lease.resource.as_str()).await?;
        Ok(Released::Released)
    }

    async fn break_leases(&mut self, resource: &ResourceName) -> sqlx::Result<u64> {
        const BREAK: &str = "DELETE FROM leases WHERE namespace = ? AND name = ? AND token > 0 RETURNING id, inbox";
        let namespace = self.namespace.clone();
        let broken = query(BREAK).bind(&*namespace).bind(resource.as_str()).fetch_all(&mut *self.conn).await?;
        for row in &broken {
            self.tell(row.try_get(1)?, lease_id(row, 0)?, 0).await?;
        }
        self.settle(&namespace, resource.as_str()).await?;
        Ok(broken.len() as u64)
    }

    /// Grants from the head of the queue, as far as the capacity goes.
    async fn settle(&mut self, namespace: &str, name: &str) -> sqlx::Result<()> {
        const HEAD: &str = "SELECT nr, id, inbox, weight + (SELECT coalesce(sum(weight), 0) FROM leases \
             WHERE namespace = ?1 AND name = ?2 AND token > 0) <= capacity \
             FROM leases WHERE namespace = ?1 AND name = ?2 AND token = 0 ORDER BY nr LIMIT 1";
        const GRANT: &str = "UPDATE leases SET token = ?, since = ? WHERE nr = ?";
        while let Some(head) = query(HEAD).bind(namespace).bind(name).fetch_optional(&mut *self.conn).await?
            && head.try_get(3)?
        {
            let token = self.next_token().await?;
            let nr: i64 = head.try_get(0)?;
            query(GRANT).bind(token).bind(micros(self.now)).bind(nr).execute(&mut *self.conn).await?;
            self.tell(head.try_get(2)?, lease_id(&head, 1)?, token).await?;
        }
        Ok(())
    }

    /// What has become of a lease, if it is there.
    async fn standing(&mut self, key: &LeaseKey) -> sqlx::Result<Option<Acquired>> {
        const FIND: &str = "SELECT token, expires, nr FROM leases WHERE namespace = ? AND name = ? AND id = ?";
        // The end of the waiter in front, or of the first holder.
        const PLACE: &str = "SELECT (SELECT count(*) FROM leases WHERE namespace = ?1 AND name = ?2 AND token = 0 AND nr < ?3), \
             coalesce((SELECT expires FROM leases WHERE namespace = ?1 AND name = ?2 AND token = 0 AND nr < ?3 \
             ORDER BY nr DESC LIMIT 1), \
             (SELECT min(expires) FROM leases WHERE namespace = ?1 AND name = ?2 AND token > 0), 0)";
        let (namespace, name) = (&*self.namespace, key.resource.as_str());
        let find = query(FIND).bind(namespace).bind(name).bind(key.id.as_u128().to_be_bytes().to_vec());
        let Some(found) = find.fetch_optional(&mut *self.conn).await? else { return Ok(None) };
        let (token, expires, nr): (i64, i64, i64) = (found.try_get(0)?, found.try_get(1)?, found.try_get(2)?);
        if token > 0 {
            return Ok(Some(Acquired::Held(Grant { token: as_token(token), ttl: self.until(expires) })));
        }
        let place = query(PLACE).bind(namespace).bind(name).bind(nr).fetch_one(&mut *self.conn).await?;
        let (ahead, blocked): (u32, i64) = (place.try_get(0)?, place.try_get(1)?);
        Ok(Some(Acquired::Queued(Place { ahead: ahead.into(), ask_again: self.until(blocked) })))
    }

    async fn inspect(&mut self, resource: &ResourceName) -> sqlx::Result<Snapshot> {
        const HOLDERS_THEN_QUEUE: &str = "SELECT capacity, weight, token, expires, since, owner FROM leases \
             WHERE namespace = ? AND name = ? ORDER BY token = 0, token, nr";
        let rows = query(HOLDERS_THEN_QUEUE).bind(&*self.namespace).bind(resource.as_str());
        let rows = rows.fetch_all(&mut *self.conn).await?;
        let capacity = rows.first().map(|row| row.try_get(0)).transpose()?;
        let mut snapshot =
            Snapshot { resource: resource.clone(), capacity, holders: Vec::new(), queue: Vec::new(), rest: None };
        for row in &rows {
            let (weight, token) = (row.try_get(1)?, row.try_get(2)?);
            let (remaining, passed) = (self.until(row.try_get(3)?), self.since(row.try_get(4)?));
            let owner = Owner::from_record(row.try_get(5)?);
            if token > 0 {
                let token = as_token(token);
                snapshot.holders.push(Holder { owner, token, weight, held_for: passed, remaining, data: None });
            } else {
                snapshot.queue.push(Waiter { owner, weight, waiting_for: passed, remaining, data: None });
            }
        }
        Ok(snapshot)
    }

    async fn list(&mut self, filter: &ListFilter) -> sqlx::Result<Page> {
        const EXPIRED: &str = "SELECT DISTINCT name FROM leases WHERE namespace = ? AND expires <= ?";
        let expired = query(EXPIRED).bind(&*self.namespace).bind(micros(self.now)).fetch_all(&mut *self.conn).await?;
        for row in &expired {
            self.expire(row.try_get(0)?).await?;
        }
        const LIST: &str = "SELECT name, count(*) FILTER (WHERE token > 0), count(*) FILTER (WHERE token = 0) FROM leases \
             WHERE namespace = ?1 AND name > ?2 AND name >= ?3 AND substr(name, 1, length(?3)) = ?3 \
             GROUP BY name ORDER BY name LIMIT ?4";
        let after = filter.after.as_ref().map_or("", |Cursor(name)| name);
        let limit = u32::try_from(filter.limit).unwrap_or(u32::MAX).clamp(1, LONGEST_PAGE);
        let list = query(LIST).bind(&*self.namespace).bind(after).bind(&*filter.prefix).bind(limit);
        let rows = list.fetch_all(&mut *self.conn).await?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let resource =
                ResourceName::new(row.try_get::<&str, _>(0)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
            let (holders, waiters): (u32, u32) = (row.try_get(1)?, row.try_get(2)?);
            entries.push(Entry { resource, holders: holders.into(), waiters: waiters.into() });
        }
        let next =
            entries.last().filter(|_| entries.len() == limit as usize).map(|entry| Cursor(entry.resource.to_string()));
        Ok(Page { entries, next })
    }

    /// Above all that were given out in this file, and in one that was deleted, unless the clock of the host went back.
    async fn next_token(&mut self) -> sqlx::Result<i64> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let wall = i64::try_from(wall).unwrap_or_default();
        query("UPDATE state SET last = max(last + 1, ?) RETURNING last")
            .bind(wall)
            .fetch_one(&mut *self.conn)
            .await?
            .try_get(0)
    }

    /// Tells a client of a grant, or with no token of a break.
    async fn tell(&mut self, inbox: &str, id: LeaseId, token: i64) -> sqlx::Result<()> {
        if *inbox == *self.inbox {
            self.events.push(event(id, token));
            return Ok(());
        }
        self.is_mail = true;
        query("INSERT INTO mail VALUES (?, ?, ?, ?)")
            .bind(inbox)
            .bind(id.as_u128().to_be_bytes().to_vec())
            .bind(token)
            .bind(micros(self.now))
            .execute(&mut *self.conn)
            .await
            .map(drop)
    }

    fn until(&self, expires: i64) -> Duration {
        Duration::from_micros(u64::try_from(expires - micros(self.now)).unwrap_or_default())
    }

    fn since(&self, then: i64) -> Duration {
        Duration::from_micros(u64::try_from(micros(self.now) - then).unwrap_or_default())
    }
}

fn event(id: LeaseId, token: i64) -> Event {
    if token > 0 { Event::Granted { id, token: as_token(token) } } else { Event::Broken { id } }
}

fn as_token(token: i64) -> Token {
    Token::new(token.unsigned_abs())
}

fn lease_id(row: &SqliteRow, column: usize) -> sqlx::Result<LeaseId> {
    let bytes: &[u8] = row.try_get(column)?;
    let bytes = bytes.try_into().map_err(|_| sqlx::Error::Decode("an id of another length".into()))?;
    Ok(LeaseId::from_u128(u128::from_be_bytes(bytes)))
}

pub(crate) fn micros(moment: Moment) -> i64 {
    i64::try_from(moment.since(Moment::default()).as_micros()).unwrap_or(i64::MAX)
}
