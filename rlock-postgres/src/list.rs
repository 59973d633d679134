//! Listing the resources of a namespace.

use rlock_core::{Cursor, Entry, ListFilter, Page, ResourceName};
use sqlx::Row as _;

use crate::PostgresBackend;
use crate::error::CallError;
use crate::statement::Value;

/// How many rows one statement reads at most.
const LONGEST_PAGE: usize = 1_000;

impl PostgresBackend {
    /// One page, in the order of the names. The cursor is the last of them.
    pub(crate) async fn page(&self, filter: &ListFilter) -> Result<Page, CallError> {
        let after = filter.after.as_ref().map_or("", |Cursor(name)| name);
        let limit = filter.limit.clamp(1, LONGEST_PAGE);
        let found = loop {
            let found = self.read_page(filter, after, limit).await?;
            let stale: Vec<_> =
                found.iter().filter(|(_, is_stale)| *is_stale).map(|(entry, _)| &entry.resource).collect();
            if stale.is_empty() {
                break found;
            }
            // Some may have no leases then, and others, as stale, come into the page in their place.
            self.settle(&stale).await?;
        };
        let next =
            (found.len() == limit).then(|| found.last().map(|(entry, _)| Cursor(entry.resource.to_string()))).flatten();
        Ok(Page { entries: found.into_iter().map(|(entry, _)| entry).collect(), next })
    }

    async fn read_page(&self, filter: &ListFilter, after: &str, limit: usize) -> Result<Vec<(Entry, bool)>, CallError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values =
            vec![self.namespace_value(), Value::text(&*filter.prefix), Value::text(after), Value::Number(limit)];
        let rows = self.call(self.list_statement(), values).await?;
        let entry = |row: &sqlx::postgres::PgRow| {
            let count = |at: usize| row.try_get::<i64, _>(at).map(|count| u64::try_from(count).unwrap_or_default());
            let name: &str = row.try_get(0)?;
            let resource = ResourceName::new(name).map_err(|error| sqlx::Error::Decode(error.into()))?;
            Ok((Entry { resource, holders: count(2)?, waiters: count(3)? }, row.try_get(1)?))
        };
        rows.iter().map(entry).collect::<sqlx::Result<_>>().map_err(CallError::unreadable)
    }
}
