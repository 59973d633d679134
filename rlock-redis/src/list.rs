//! Listing the resources of a namespace, by scanning the database.

use std::collections::HashSet;

use rlock_core::{BackendError, Cursor, Entry, Failure, ListFilter, Page, ResourceName};
use tokio::time::Instant;

use crate::RedisBackend;
use crate::answers::{self, Unreadable};
use crate::conn::{Args, Reply};
use crate::error::code_of;
use crate::scripts::COUNT;

/// How many keys the server looks at in one step at most; it does nothing else meanwhile.
const LONGEST_STEP: usize = 1_000;

impl RedisBackend {
    /// One page. In a database with much else in it a page may stay short, or empty, because looking through the
    /// keys takes its time.
    pub(crate) async fn page(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        let pattern = self.keys.pattern(&filter.prefix);
        let (limit, until) = (filter.limit.max(1), Instant::now() + self.timeout());
        let mut cursor = match &filter.after {
            Some(Cursor(text)) => text.parse().map_err(|_| self.bad_cursor(text))?,
            None => 0,
        };
        let mut step = limit.min(LONGEST_STEP);
        let (mut entries, mut seen) = (Vec::new(), HashSet::new());
        loop {
            let (next, keys) = self.scan(cursor, &pattern, step).await?;
            cursor = next;
            if keys.is_empty() {
                step = (2 * step).min(LONGEST_STEP);
            }
            let resources = keys.into_iter().filter_map(|key| self.keys.name(&key).map(|name| (key, name)));
            // A scan may come by the same key more than once.
            let new: Vec<_> = resources.filter(|(key, _)| seen.insert(key.clone())).collect();
            for part in new.chunks(LONGEST_STEP) {
                entries.extend(self.count(part).await?);
            }
            if cursor == 0 {
                return Ok(Page { entries, next: None });
            }
            if entries.len() >= limit || Instant::now() >= until {
                return Ok(Page { entries, next: Some(Cursor(cursor.to_string())) });
            }
        }
    }

    async fn scan(&self, cursor: u64, pattern: &str, step: usize) -> Result<(u64, Vec<String>), BackendError> {
        let mut args = Args::with_capacity(7);
        args.number(cursor);
        args.fixed("MATCH");
        args.text(pattern);
        args.fixed("COUNT");
        args.number(step as u64);
        args.fixed("TYPE");
        args.fixed("string");
        let reply = self.command("list", "SCAN", args).await?;
        let foreign = || self.failed(answers::foreign(&reply), "list");
        let Reply::Array(parts) = &reply else { return Err(foreign()) };
        let [Reply::Text(next), Reply::Array(keys)] = &parts[..] else { return Err(foreign()) };
        let text = |key: &Reply| if let Reply::Text(key) = key { Some(key.clone()) } else { None };
        Ok((next.parse().map_err(|_| foreign())?, keys.iter().filter_map(text).collect()))
    }

    /// The resources among `resources` that have live leases.
    async fn count(&self, resources: &[(String, ResourceName)]) -> Result<Vec<Entry>, BackendError> {
        if resources.is_empty() {
            return Ok(Vec::new());
        }
        let build = |args: &mut Args| self.add_keys(args, resources.iter().map(|(_, resource)| resource));
        let mut entries = Vec::new();
        let read = |reply: &Reply| answers::entries(reply, resources.len());
        for (answer, (_, resource)) in self.answers("list", &COUNT, build, read).await?.iter().zip(resources) {
            match answers::counted(answer) {
                Ok((0, 0)) => {}
                Ok((holders, waiters)) => entries.push(Entry { resource: resource.clone(), holders, waiters }),
                // The key of others that looks like ours.
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
