//! Lists the resources of a namespace, by scanning the database.

use std::collections::{BTreeMap, HashSet};

use rlock_core::{BackendError, Cursor, Entry, Failure, ListFilter, Page, ResourceName};
use tokio::time::Instant;

use crate::RedisBackend;
use crate::answers::{self, Unreadable};
use crate::batch::Sent;
use crate::error::code_of;
use crate::keys::Keys;
use crate::primary::Primary;
use crate::scripts::COUNT;
use crate::wire::{Args, Reply};

/// The maximum number of keys that the server scans per step; it does nothing else meanwhile.
const LONGEST_STEP: usize = 1_000;

impl RedisBackend {
    /// Reads one page. In a database with many other keys a page may be short or empty, because the scan stops after
    /// the timeout.
    pub(crate) async fn page(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        let pattern = self.keys.pattern(&filter.prefix);
        let (limit, until) = (filter.limit.max(1), Instant::now() + self.timeout());
        let (mut cursor, from) = match &filter.after {
            Some(Cursor(text)) => read_cursor(text).ok_or_else(|| self.bad_cursor(text))?,
            None => (0, ""),
        };
        let mut step = limit.min(LONGEST_STEP);
        let (mut entries, mut seen) = (Vec::new(), HashSet::new());
        let mut primaries: Vec<_> =
            self.route.primaries().into_iter().map(|one| (self.route.name_of(&one), one)).collect();
        primaries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (name, primary) in primaries {
            if name.as_str() < from {
                continue;
            }
            if name != from {
                cursor = 0; // the cursor's node is no longer a primary
            }
            loop {
                let (next, keys) = self.scan(&primary, cursor, &pattern, step).await?;
                cursor = next;
                if keys.is_empty() {
                    step = (2 * step).min(LONGEST_STEP);
                }
                let resources = keys.into_iter().filter_map(|key| self.keys.name(&key).map(|name| (key, name)));
                // A scan may return the same key more than once.
                let new = resources.filter(|(key, _)| seen.insert(key.clone())).map(|(_, resource)| resource);
                entries.extend(self.count_all(new.collect()).await?);
                if cursor == 0 {
                    break;
                }
                if entries.len() >= limit || Instant::now() >= until {
                    return Ok(Page { entries, next: Some(Cursor(write_cursor(cursor, &name))) });
                }
            }
        }
        Ok(Page { entries, next: None })
    }

    async fn scan(
        &self,
        primary: &Primary,
        cursor: u64,
        pattern: &str,
        step: usize,
    ) -> Result<(u64, Vec<String>), BackendError> {
        let mut args = Args::with_capacity(7);
        args.number(cursor);
        args.fixed("MATCH");
        args.text(pattern);
        args.fixed("COUNT");
        args.number(step as u64);
        args.fixed("TYPE");
        args.fixed("string");
        let scanned = async { primary.commands()?.command("SCAN", args).await }.await;
        let reply = scanned.map_err(|error| self.call_failed(error.about(self.route.name_of(primary)), "list"))?;
        let foreign = || self.failed(answers::foreign(&reply), "list");
        let Reply::Array(parts) = &reply else { return Err(foreign()) };
        let [Reply::Text(next), Reply::Array(keys)] = &parts[..] else { return Err(foreign()) };
        let text = |key: &Reply| if let Reply::Text(key) = key { Some(key.clone()) } else { None };
        Ok((next.parse().map_err(|_| foreign())?, keys.iter().filter_map(text).collect()))
    }

    /// Counts the live leases of `resources`, and leaves out those without any.
    async fn count_all(&self, resources: Vec<ResourceName>) -> Result<Vec<Entry>, BackendError> {
        let mut by_bucket = BTreeMap::<u16, Vec<ResourceName>>::new();
        for resource in resources {
            let bucket = if self.route.is_by_bucket() { Keys::bucket(&resource) } else { 0 };
            by_bucket.entry(bucket).or_default().push(resource);
        }
        let mut entries = Vec::new();
        for (bucket, resources) in &by_bucket {
            for part in resources.chunks(LONGEST_STEP) {
                entries.extend(self.count(*bucket, part).await?);
            }
        }
        Ok(entries)
    }

    async fn count(&self, bucket: u16, resources: &[ResourceName]) -> Result<Vec<Entry>, BackendError> {
        let build = |args: &mut Args| self.add_keys(args, Sent::WithSets, resources.iter());
        let mut entries = Vec::new();
        let read = |reply: &Reply| answers::entries(reply, resources.len());
        for (answer, resource) in self.answers("list", bucket, &COUNT, build, read).await?.iter().zip(resources) {
            match answers::counted(answer) {
                Ok((0, 0)) => {}
                Ok((holders, waiters)) => entries.push(Entry { resource: resource.clone(), holders, waiters }),
                // A key of another program that looks like one of rlock's.
                Err(Unreadable::Failed(error)) if code_of(&error) == "WRONGTYPE" => {
                    tracing::debug!(%resource, error, "left out of a list")
                }
                Err(error) => return Err(self.failed(error, "list")),
            }
        }
        Ok(entries)
    }

    fn bad_cursor(&self, text: &str) -> BackendError {
        let reason =
            format!("{text:?} is not a cursor of this backend: pass on the one that the page before ended with");
        BackendError::Rejected(Failure::new("list", self.store.clone(), reason))
    }
}

/// A cursor of a page: the cursor of a scan, and in a cluster the address of the scanned node.
fn write_cursor(cursor: u64, node: &str) -> String {
    if node.is_empty() { cursor.to_string() } else { format!("{cursor}@{node}") }
}

fn read_cursor(text: &str) -> Option<(u64, &str)> {
    let (cursor, node) = text.split_once('@').unwrap_or((text, ""));
    Some((cursor.parse().ok()?, node))
}
