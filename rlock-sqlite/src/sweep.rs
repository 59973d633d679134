//! Removes what is not used any more.

use rusqlite::{Result, Row};

use crate::request::Transaction;

/// The time for which a row stays after its last use, in µs, and a notice after it was sent.
const KEPT: i64 = 60_000_000;
/// The rows that are looked at together; meanwhile no other client can write.
const ROWS: u32 = 256;

/// Goes through the resources, a part at a time.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    namespace: String,
    name: String,
}

impl Transaction<'_> {
    /// Sweeps the next part, and answers whether it was full of rows to remove, so that another sweep should follow soon.
    pub(crate) fn sweep(&mut self, sweep: &mut Sweep) -> Result<bool> {
        const LOOK: &str = "SELECT namespace, name, crowd, expires, last FROM resources WHERE (namespace, name) > (?, ?) \
             ORDER BY namespace, name LIMIT ?";
        const REMOVE: &str = "DELETE FROM resources WHERE namespace = ? AND name = ?";
        const NOTE: &str = "UPDATE state SET last = max(last, ?)";
        const FORGET: &str = "DELETE FROM mail WHERE nr IN (SELECT nr FROM mail ORDER BY nr LIMIT ?) AND sent < ?";
        let before = self.now - KEPT;
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
        let rows: Vec<(String, String, i64, i64, i64)> = {
            let mut look = self.prepare(LOOK)?;
            let rows = look.query_map((&sweep.namespace, &sweep.name, ROWS), read)?;
            rows.collect::<Result<_>>()?
        };
        let (mut removed, mut last) = (0, 0);
        for (namespace, name, crowd, expires, token) in &rows {
            if *crowd != 0 {
                self.find(namespace, name)?;
            } else if *expires < before {
                last = last.max(*token);
                removed += self.execute(REMOVE, (namespace, name))?;
            }
        }
        if removed > 0 {
            self.execute(NOTE, [last])?; // or tokens could go back with the host's clock
        }
        self.execute(FORGET, (ROWS, before))?;
        let is_end = rows.len() < ROWS as usize;
        *sweep = match rows.into_iter().next_back() {
            Some((namespace, name, ..)) if !is_end => Sweep { namespace, name },
            _ => Sweep::default(),
        };
        Ok(removed > ROWS as usize / 4)
    }
}
