//! Lists the resources of a namespace.

use rlock_core::{Cursor, Entry, ListFilter, Page, ResourceName};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::PostgresBackend;
use crate::error::CallError;
use crate::statement::Value;

/// The maximum number of rows that one statement reads.
const LONGEST_PAGE: usize = 1_000;

impl PostgresBackend {
    /// Reads one page, in the order of the names. The cursor is the last name.
    pub(crate) async fn page(&self, filter: &ListFilter) -> Result<Page, CallError> {
        let mut found = self.read_page(filter).await?;
        let stale: Vec<_> = found.iter().filter(|(_, is_stale)| *is_stale).map(|(entry, _)| &entry.resource).collect();
        if !stale.is_empty() {
            self.settle(&stale).await?;
            found = self.read_page(filter).await?;
        }
        let is_full = found.len() == limit_of(filter);
        let next = found.last().filter(|_| is_full).map(|(entry, _)| Cursor(entry.resource.to_string()));
        Ok(Page { entries: found.into_iter().map(|(entry, _)| entry).collect(), next })
    }

    /// The entries of a page, and for each whether a waiter may be due for a grant.
    async fn read_page(&self, filter: &ListFilter) -> Result<Vec<(Entry, bool)>, CallError> {
        let after = filter.after.as_ref().map_or("", |Cursor(name)| name);
        let limit = i64::try_from(limit_of(filter)).unwrap_or(i64::MAX);
        let values = vec![self.namespace(), Value::text(&*filter.prefix), Value::text(after), Value::Number(limit)];
        let rows = self.link.read(&self.statements.list, values).await?;
        let entry = |row: &PgRow| {
            let count = |at: usize| row.try_get::<i64, _>(at).map(|count| u64::try_from(count).unwrap_or_default());
            let resource =
                ResourceName::new(row.try_get::<&str, _>(0)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
            Ok((Entry { resource, holders: count(1)?, waiters: count(2)? }, row.try_get(3)?))
        };
        rows.iter().map(entry).collect::<sqlx::Result<_>>().map_err(CallError::unreadable)
    }
}

fn limit_of(filter: &ListFilter) -> usize {
    filter.limit.clamp(1, LONGEST_PAGE)
}
