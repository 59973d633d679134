//! Notices to clients about their leases.

use rlock_core::Event;
use rusqlite::{Connection, Result};

use crate::request::{Id, Transaction, as_token};

impl Transaction<'_> {
    /// Notifies a client of a grant, or with the token 0 of a break.
    pub(crate) fn notify(&mut self, inbox: &str, id: Id, token: i64) -> Result<()> {
        if inbox == self.inbox {
            self.events.push(event(id, token));
            return Ok(());
        }
        self.is_mail = true;
        self.execute("INSERT INTO mail (inbox, id, token, sent) VALUES (?, ?, ?, ?)", (inbox, id, token, self.now))?;
        Ok(())
    }

    /// Removes the notices that this client has read, up to the number `read`.
    pub(crate) fn discard(&self, read: i64) -> Result<()> {
        self.execute("DELETE FROM mail WHERE inbox = ? AND nr <= ?", (self.inbox, read)).map(drop)
    }
}

/// Reads the notices for a client after the number `read`, which the last of them replaces.
///
/// They stay until they are [discarded](Transaction::discard), so that a waiter need not write before it knows that it was
/// granted. While they are there, later ones have greater numbers.
pub(crate) fn read(conn: &Connection, inbox: &str, read: &mut i64) -> Result<Vec<Event>> {
    const READ: &str = "SELECT nr, id, token FROM mail WHERE inbox = ? AND nr > ? ORDER BY nr";
    let mut statement = conn.prepare_cached(READ)?;
    let rows = statement.query_map((inbox, *read), |row| Ok((row.get(0)?, event(row.get(1)?, row.get(2)?))))?;
    let rows = rows.collect::<Result<Vec<(i64, Event)>>>()?;
    *read = rows.last().map_or(*read, |(nr, _)| *nr);
    Ok(rows.into_iter().map(|(_, event)| event).collect())
}

fn event(Id(id): Id, token: i64) -> Event {
    if token > 0 { Event::Granted { id, token: as_token(token) } } else { Event::Broken { id } }
}
