//! Attaches leases to other etcd leases, which live longer.

use rlock_core::{Extended, Extension, LeaseKey};

use crate::answer;
use crate::error::{CallError, Kind};
use crate::inner::Inner;
use crate::known::Known;
use crate::line::Entry;
use crate::pool::Lease;
use crate::record::Record;
use crate::txn;

/// How many times the client tries to attach a lease while others write its key.
const ATTEMPTS: usize = 16;

impl Inner {
    /// Attaches a lease to a new etcd lease with the TTL of the extension; `None` if the lease is gone.
    pub(crate) async fn attach(&self, extension: &Extension, entry: &Entry) -> Result<Option<Lease>, CallError> {
        let lease = self.pool.grant(extension.ttl.get()).await?;
        let attached = self.attach_to(lease, extension, entry).await;
        match &attached {
            // The key is attached to it.
            Ok(Some(attached)) if attached.id == lease.id => {}
            Ok(_) => self.pool.revoke(lease.id),
            // The key may be attached to it: the next extension finds that out. Otherwise the etcd lease expires by
            // itself.
            Err(_) => self.pool.forget(lease.id),
        }
        attached
    }

    async fn attach_to(&self, lease: Lease, extension: &Extension, entry: &Entry) -> Result<Option<Lease>, CallError> {
        let key = self.keys.spot(&extension.key.resource, entry.spot);
        let mut entry = entry.clone();
        for _ in 0..ATTEMPTS {
            let record = Record { ttl: i64::try_from(lease.ttl.as_secs()).unwrap_or(i64::MAX), ..entry.record.clone() };
            let txn = txn::attach(&key, entry.written, lease.id, &record);
            let attached = self.link.call(|conn| {
                let txn = txn.clone();
                async move { answer::run_if(&conn, txn).await }
            });
            // A server that runs out of space may have carried out the write that it denies.
            let attached = attached.await.map_err(|error| match error.kind {
                Kind::Denied => CallError { kind: Kind::Unanswered, ..error },
                _ => error,
            })?;
            if let Some(revision) = attached.value {
                return Ok(self.swap(extension, lease, revision, attached.repeated));
            }
            match self.lease_at(&extension.key, &entry).await? {
                // A request of this client was carried out twice.
                Some(now) if now.lease == lease.id => return Ok(self.swap(extension, lease, now.written, true)),
                Some(now) if now.record.ttl < record.ttl => entry = now,
                // Another client has attached it to an etcd lease that lives long enough.
                Some(now) => return self.touch_foreign(extension, &now).await,
                None => return Ok(None),
            }
        }
        Err(CallError::new(Kind::Unsent, "other clients keep writing the lease"))
    }

    /// Notes the new etcd lease. The pool does not reuse it if it belongs to another client's lock, or to a lock that
    /// was released or attached to another etcd lease meanwhile.
    fn swap(&self, extension: &Extension, lease: Lease, revision: i64, repeated: bool) -> Option<Lease> {
        if !self.own_leases.attached(extension.key.id, lease, revision, repeated) {
            self.pool.forget(lease.id);
        }
        Some(lease)
    }

    /// The lease, if it still exists.
    async fn lease_at(&self, key: &LeaseKey, entry: &Entry) -> Result<Option<Entry>, CallError> {
        let (at, found) = self.look_at(txn::lease(&self.keys.spot(&key.resource, entry.spot))).await?;
        let now = found.lease(&self.keys.line(&key.resource), at);
        Ok(now.filter(|now| now.is(key.id) && now.created == entry.created))
    }

    /// Keeps an etcd lease alive that this client knows only by its number, if it has less time left than it should;
    /// `None` if it has ended meanwhile.
    pub(crate) async fn touch_foreign(&self, extension: &Extension, entry: &Entry) -> Result<Option<Lease>, CallError> {
        let asked = self.own_leases.now();
        let life = self.pool.life(entry.lease).await?;
        let touched = asked.before(life.granted.saturating_sub(life.left));
        let mut lease = Lease { id: entry.lease, ttl: life.granted, touched };
        let ttl = extension.ttl.get();
        if life.left < ttl && ttl <= life.granted && !self.pool.touch(&mut lease).await? {
            return Ok(None);
        }
        let adopts = |known: &Known| known.is(entry) && known.lease.id != lease.id;
        if self.own_leases.find(extension.key.id).is_some_and(|known| adopts(&known)) {
            self.own_leases.adopted(extension.key.id, lease, entry.written);
        }
        Ok(Some(lease))
    }

    /// Answers an extension of a lease whose etcd lease has ended: the lease is gone, unless it was attached to another
    /// etcd lease.
    pub(crate) async fn gone(&self, key: &LeaseKey, entry: &Entry) -> Result<Extended, CallError> {
        if self.lease_at(key, entry).await?.is_some() {
            let reason = "the lease was attached to another etcd lease while it was extended";
            return Err(CallError::new(Kind::Unanswered, reason));
        }
        Ok(Extended::Gone { taken: self.count(&key.resource).await? > 0 })
    }
}
