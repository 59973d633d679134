//! Pages of the resources that are in use.

use rlock_core::{Cursor, Entry, ListFilter, Page, ResourceName};
use rusqlite::types::Type;
use rusqlite::{Error, Result};

use crate::request::Transaction;

const LONGEST_PAGE: u32 = 1_000;

impl Transaction<'_> {
    pub(crate) fn list(&mut self, filter: &ListFilter) -> Result<Page> {
        // The names that begin with the prefix stand together. SQLite begins at one lower bound only.
        const LIST: &str = "SELECT name FROM resources WHERE namespace = ?1 AND name >= max(?2, ?3) AND name <> ?2 \
             AND name < ?3 || char(1114111) AND (crowd > 0 OR id IS NOT NULL) ORDER BY name LIMIT ?4";
        const COUNT: &str = "SELECT count(*) FILTER (WHERE state = 1), count(*) FILTER (WHERE state = 0) FROM leases \
             WHERE crowd = ?";
        let after = filter.after.as_ref().map_or("", |Cursor(name)| name);
        let limit = u32::try_from(filter.limit).unwrap_or(u32::MAX).clamp(1, LONGEST_PAGE);
        let names: Vec<String> = {
            let mut list = self.prepare(LIST)?;
            let found = list.query_map((self.namespace, after, &*filter.prefix, limit), |row| row.get(0))?;
            found.collect::<Result<_>>()?
        };
        let next = names.last().filter(|_| names.len() == limit as usize).cloned().map(Cursor);
        let namespace = self.namespace;
        let mut entries = Vec::with_capacity(names.len());
        for name in &names {
            let Some(resource) = self.find(namespace, name)? else { continue };
            let (holders, waiters): (u32, u32) = match resource.sole {
                Some(_) => (1, 0),
                None => self.prepare(COUNT)?.query_row([resource.crowd], |row| Ok((row.get(0)?, row.get(1)?)))?,
            };
            if holders + waiters > 0 {
                let resource = ResourceName::new(name)
                    .map_err(|error| Error::FromSqlConversionFailure(0, Type::Text, error.into()))?;
                entries.push(Entry { resource, holders: holders.into(), waiters: waiters.into() });
            }
        }
        Ok(Page { entries, next })
    }
}
