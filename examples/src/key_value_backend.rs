//! Locks in a store that can only compare and set: everything that a backend has to implement.
//!
//! Each resource is one record under its own key: the list of its leases. Every operation reads the record, changes it,
//! and writes it back unless another client has changed it meanwhile. The store can neither queue nor push, and the
//! capabilities say so. Core then waits by retries, and does everything else too.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use rlock::backend::{
    Acquired, Backend, BackendError, Capabilities, Claim, EventStream, Extended, Extension, Failure, Grant, LeaseId,
    Release, Released,
};
use rlock::{Cursor, Entry, Holder, ListFilter, Namespace, Owner, Page, ResourceName, Snapshot, Token, Ttl};
use serde::{Deserialize, Serialize};

use crate::KeyValue;

/// Locks in one namespace of a [`KeyValue`].
#[derive(Debug)]
pub struct KeyValueBackend {
    store: Arc<KeyValue>,
    prefix: String,
    capabilities: Capabilities,
}

/// The number of requests of a batch that are under way at a time.
const AT_ONCE: usize = 32;
/// The number of times that an operation reads a record that other clients keep changing. After that it fails, and core
/// pauses.
const TRIES: usize = 100;

impl KeyValueBackend {
    /// A backend for the locks of `namespace` in `store`.
    pub fn new(store: Arc<KeyValue>, namespace: &Namespace) -> Self {
        let capabilities = Capabilities {
            backend: "key_value",
            min_ttl: Ttl::MIN,
            max_ttl: Ttl::MAX,
            ttl_step: Duration::from_millis(1),
            expiry_lag: Duration::ZERO,
            queue: false,
            push: false,
            rest: false,
            data: false,
        };
        Self { store, prefix: Self::prefix(namespace), capabilities }
    }

    /// The prefix of the keys of a namespace. The first slash ends the namespace, and the name follows unchanged.
    pub fn prefix(namespace: &Namespace) -> String {
        format!("{}/", namespace.as_str().replace('%', "%25").replace('/', "%2F"))
    }

    /// Changes the record of a resource, and returns the record after the change.
    ///
    /// Expired leases are removed first, also by an operation that only reads. A client that reports an expired lease
    /// as absent has therefore written its removal. An extension that read the record earlier then gets a conflict and
    /// cannot restore the lease.
    async fn update<T>(
        &self,
        operation: &'static str,
        resource: &ResourceName,
        change: impl Fn(&mut Record) -> T,
    ) -> Result<(T, Record), BackendError> {
        let key = format!("{}{resource}", self.prefix);
        for _ in 0..TRIES {
            let (found, now) = self.store.get(&key).await;
            let version = found.as_ref().map(|found| found.version);
            let mut record = Record { now, leases: Vec::new() };
            if let Some(found) = found {
                record.leases = serde_json::from_slice(&found.value).map_err(|error| {
                    BackendError::Rejected(failure(operation, format!("{key:?} is no record")).caused_by(error))
                })?;
                record.set_tokens(found.version);
            }
            let before = record.leases.clone();
            record.leases.retain(|lease| lease.expires > now);
            let answer = change(&mut record);
            if record.leases == before {
                return Ok((answer, record));
            }
            let value =
                (!record.leases.is_empty()).then(|| serde_json::to_vec(&record.leases).expect("it is plain data"));
            if let Ok(version) = self.store.compare_and_set(&key, version, value).await {
                record.set_tokens(version);
                return Ok((answer, record));
            }
        }
        Err(BackendError::NotApplied(failure(operation, format!("{key:?} was changed by others {TRIES} times"))))
    }
}

#[async_trait]
impl Backend for KeyValueBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        let claim = async |claim: &Claim| {
            let (added, record) = self.update("acquire", &claim.key.resource, |record| record.add(claim)).await?;
            added?;
            Ok(record.grant(claim.key.id).map_or(Acquired::Busy, Acquired::Held))
        };
        answers(claims.iter().map(claim)).await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let extend = async |Extension { key, ttl }: &Extension| {
            let ((), record) = self.update("extend", &key.resource, |record| record.extend(key.id, *ttl)).await?;
            let gone = Extended::Gone { taken: !record.leases.is_empty() };
            Ok(record.grant(key.id).map_or(gone, Extended::Held))
        };
        answers(extensions.iter().map(extend)).await
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        let release = async |Release { key, .. }: &Release| {
            let (removed, _) = self.update("release", &key.resource, |record| record.remove(key.id)).await?;
            Ok(if removed { Released::Released } else { Released::Absent })
        };
        answers(releases.iter().map(release)).await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        let ((), record) = self.update("inspect", resource, |_| ()).await?;
        let holder = |lease: &Lease| Holder {
            owner: Owner::from_record(&lease.owner),
            token: Token::new(lease.token.unwrap_or_default()),
            weight: lease.weight,
            held_for: record.now - lease.granted,
            remaining: lease.expires - record.now,
            data: None,
        };
        let holders = record.leases.iter().map(holder).collect();
        Ok(Snapshot { resource: resource.clone(), capacity: record.capacity(), holders, queue: Vec::new(), rest: None })
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        let prefix = format!("{}{}", self.prefix, filter.prefix);
        let after = filter.after.as_ref().map(|Cursor(key)| key.as_str());
        if after.is_some_and(|key| !key.starts_with(&prefix)) {
            return Err(BackendError::Rejected(failure("list", "the cursor is from elsewhere: start without one")));
        }
        let limit = filter.limit.max(1);
        let keys = self.store.keys(&prefix, after, limit).await;
        let next = keys.last().filter(|_| keys.len() == limit).cloned().map(Cursor);
        let names = keys.iter().filter_map(|key| ResourceName::new(key.strip_prefix(&self.prefix)?).ok());
        let records = names.map(async |resource| {
            let ((), record) = self.update("list", &resource, |_| ()).await?;
            Ok(Entry { resource, holders: record.leases.len() as u64, waiters: 0 })
        });
        let entries: Result<Vec<Entry>, BackendError> = answers(records).await.into_iter().collect();
        let mut entries = entries?;
        entries.retain(|entry| entry.holders > 0);
        Ok(Page { entries, next })
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        let (ended, _) = self.update("break", resource, |record| record.leases.drain(..).len()).await?;
        Ok(ended as u64)
    }

    fn events(&self) -> EventStream {
        stream::pending().boxed()
    }
}

/// The answers of all calls, in the order of the calls.
fn answers<F: Future>(calls: impl Iterator<Item = F>) -> impl Future<Output = Vec<F::Output>> {
    let calls: Vec<F> = calls.collect();
    stream::iter(calls).buffered(AT_ONCE).collect()
}

/// The live leases of a resource at an instant of the store's clock, in the order in which they were granted.
struct Record {
    now: Duration,
    leases: Vec<Lease>,
}

/// A lease in the store.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Lease {
    id: String,
    /// The version of the write that granted the lease; absent until the next write. The versions of this store grow
    /// with every write to any key, also after deletions, so a free resource leaves nothing behind. In a store whose
    /// versions do not grow, a counter has to outlive the record.
    token: Option<u64>,
    weight: u32,
    capacity: u32,
    granted: Duration,
    expires: Duration,
    owner: String,
}

impl Record {
    /// Adds a claimed lease, if it is not in the record yet and fits.
    fn add(&mut self, claim: &Claim) -> Result<(), BackendError> {
        let Claim { key, share, .. } = claim;
        if self.position(key.id).is_some() {
            return Ok(());
        }
        if let Some(actual) = self.capacity().filter(|capacity| *capacity != share.capacity()) {
            let (resource, asked) = (key.resource.clone(), share.capacity());
            return Err(BackendError::CapacityMismatch { resource, asked, actual });
        }
        let taken: u32 = self.leases.iter().map(|lease| lease.weight).sum();
        if share.weight() <= share.capacity() - taken {
            self.leases.push(Lease {
                id: key.id.to_hex(),
                token: None,
                weight: share.weight(),
                capacity: share.capacity(),
                granted: self.now,
                expires: self.now + claim.ttl.get(),
                owner: claim.owner.to_record(),
            });
        }
        Ok(())
    }

    fn extend(&mut self, id: LeaseId, ttl: Ttl) {
        if let Some(at) = self.position(id) {
            let lease = &mut self.leases[at];
            lease.expires = lease.expires.max(self.now + ttl.get());
        }
    }

    fn remove(&mut self, id: LeaseId) -> bool {
        self.position(id).map(|at| self.leases.remove(at)).is_some()
    }

    fn grant(&self, id: LeaseId) -> Option<Grant> {
        let lease = &self.leases[self.position(id)?];
        Some(Grant { token: Token::new(lease.token?), ttl: lease.expires - self.now })
    }

    fn position(&self, id: LeaseId) -> Option<usize> {
        let id = id.to_hex();
        self.leases.iter().position(|lease| lease.id == id)
    }

    /// The capacity that all leases were claimed with.
    fn capacity(&self) -> Option<u32> {
        self.leases.first().map(|lease| lease.capacity)
    }

    /// Sets the tokens of the leases of the last write, which have none yet, to the version of that write.
    fn set_tokens(&mut self, version: u64) {
        for lease in &mut self.leases {
            lease.token.get_or_insert(version);
        }
    }
}

fn failure(operation: &'static str, reason: impl Into<String>) -> Failure {
    Failure::new(operation, "the key-value store", reason)
}
