//! Listing the resources of a namespace, in the order of their keys.

use etcd_client::GetOptions;
use rlock_core::{BackendError, Cursor, Entry as Listed, Failure, ListFilter, Page, ResourceName};

use crate::error::CallError;
use crate::inner::Inner;
use crate::line::Line;
use crate::txn::{At, behind};

/// The number of leases to read at a time.
const STEP: i64 = 1_000;

impl Inner {
    /// Reads one page. The leases of a resource are read together with it; a cursor is the name of the last resource of
    /// a page.
    pub(crate) async fn page(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        let prefix = self.keys.starting(&filter.prefix);
        let end = behind(&prefix);
        let mut from = prefix.into_bytes();
        if let Some(cursor) = &filter.after {
            from = from.max(self.after(cursor)?);
        }
        let mut entries = Vec::new();
        loop {
            let (kvs, at, more) = self.range(&from, &end).await.map_err(|error| self.failed(error, "list"))?;
            let Some(last) = kvs.last() else { return Ok(Page { entries, next: None }) };
            let next = next_key(last.key());
            let mut read: Vec<_> = kvs.iter().filter_map(|kv| Some((self.keys.read(kv.key())?.0, kv))).collect();
            let cut = read.last().map(|(name, _)| name.clone()).filter(|_| more);
            // The leases of the last resource may go on after this range; its line is read separately.
            read.retain(|(name, _)| Some(name) != cut.as_ref());
            for same in read.chunk_by(|(one, _), (other, _)| one == other) {
                let kvs: Vec<_> = same.iter().map(|(_, kv)| (*kv).clone()).collect();
                entries.extend(listed(&same[0].0, &Line::read(&self.keys.line(&same[0].0), at, &kvs)));
            }
            if let Some(name) = &cut {
                let lines = self.lines(&[name]).await.map_err(|error| self.failed(error, "list"))?;
                entries.extend(lines.iter().filter_map(|line| listed(name, line)));
            }
            let limit = filter.limit.max(1);
            if entries.len() > limit {
                entries.truncate(limit);
                let cursor = Cursor(entries[limit - 1].resource.to_string());
                return Ok(Page { entries, next: Some(cursor) });
            }
            if !more {
                return Ok(Page { entries, next: None });
            }
            from = match &cut {
                Some(name) => behind(&self.keys.line(name)),
                None => next,
            };
        }
    }

    async fn range(&self, from: &[u8], end: &[u8]) -> Result<(Vec<etcd_client::KeyValue>, At, bool), CallError> {
        let read = self.link.call(|conn| async move {
            let options = GetOptions::new().with_range(end).with_limit(STEP);
            let mut got = conn.kv().get(from, Some(options)).await?;
            let revision = got.header().map_or(0, etcd_client::ResponseHeader::revision);
            let at = At { revision, epoch: conn.epoch() };
            Ok((got.take_kvs(), at, got.more()))
        });
        Ok(read.await?.value)
    }

    fn after(&self, cursor: &Cursor) -> Result<Vec<u8>, BackendError> {
        let name = ResourceName::new(&cursor.0).map_err(|_| {
            let reason = format!(
                "{:?} is not a cursor of this backend: pass on the one that the page before ended with",
                cursor.0
            );
            BackendError::Rejected(Failure::new("list", self.store.clone(), reason))
        })?;
        Ok(behind(&self.keys.line(&name)))
    }
}

fn listed(name: &ResourceName, line: &Line) -> Option<Listed> {
    let holders = line.holders().iter().filter(|entry| !entry.record.is_resting()).count() as u64;
    let waiters = line.waiters().len() as u64;
    (holders + waiters > 0).then(|| Listed { resource: name.clone(), holders, waiters })
}

/// The first key after `key`.
fn next_key(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}
