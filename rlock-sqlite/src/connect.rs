//! From a configuration to an open file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rlock_core::Moment;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::SqliteConfig;
use crate::clock::{HostClock, micros};
use crate::error::{CallError, Kind};
use crate::file::{self, Identity, QuietFolder};
use crate::presence::Presence;
use crate::turns::Turns;

/// The version of the tables.
const VERSION: i64 = 3;
/// In the header of the file: "rlok".
const APPLICATION: i64 = 0x726c_6f6b;
/// The time in which nothing is granted after a file was deleted, so that those who held something in it learn of it first:
/// they look ten times as often.
const GRACE: Duration = Duration::from_secs(1);
/// The pages of the log after which SQLite copies it into the file. The first client after all others have gone reads the log.
const LOG: i64 = 500;
/// The bytes that the log keeps when SQLite starts it anew. It is longer after a long read transaction.
const LOG_KEPT: i64 = 4 << 20;

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) conn: Connection,
    /// Until then nothing is granted, in µs.
    pub(crate) opens: i64,
    /// The commits of others, as SQLite counts them.
    version: Option<i64>,
    parts: [Part; 3],
    /// The folder of all parts, unless links lead from one folder to another.
    folder: Option<PathBuf>,
    /// The folder when all parts were last found there.
    seen: Option<QuietFolder>,
    _presence: Presence,
}

/// One of the files that SQLite works on.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    identity: Option<Identity>,
}

impl Part {
    fn at(path: PathBuf) -> Self {
        Self { identity: file::identity(&path), path }
    }

    fn is_there(&self) -> bool {
        file::identity(&self.path) == self.identity
    }
}

impl OpenFile {
    /// Opens the file at `path`, without links, and makes its tables if it is new. `was_lost` says that this client had it
    /// open before, and that a part of it was deleted since.
    pub(crate) fn open(
        config: &SqliteConfig,
        path: &Path,
        clock: &HostClock,
        turns: &Turns,
        was_lost: bool,
    ) -> Result<Self, CallError> {
        let presence = Presence::show(path, config.timeout)?;
        let file = Part::at(config.path.clone());
        let mut conn = connect(path, config.timeout / 2)?;
        prepare(&mut conn, clock, turns)?;
        if was_lost {
            // The locks that were in that part are lost, though the tables may have been made long ago.
            let opens = micros(clock.now().after(GRACE));
            conn.execute("UPDATE state SET opens = max(opens, ?)", [opens]).map_err(CallError::undone)?;
        }
        enter(&mut conn, clock, &presence, config.timeout)?;
        let opens = conn.query_row("SELECT opens FROM state", [], |row| row.get(0)).map_err(CallError::undone)?;
        if !file.is_there() {
            return Err(replaced());
        }
        let parts = [file, Part::at(file::beside(path, "-wal")), Part::at(file::beside(path, "-shm"))];
        let folder = (config.path == path).then(|| file::folder(path).to_owned());
        Ok(Self { conn, opens, version: None, parts, folder, seen: None, _presence: presence })
    }

    /// Whether it is still what is at its path, with the log and the memory that its clients share.
    pub(crate) fn check(&mut self) -> Result<(), CallError> {
        // Before the look at the parts, so that a change after it is noticed the next time.
        let folder = self.folder.as_deref().and_then(QuietFolder::at);
        if folder.is_some() && folder == self.seen {
            return Ok(()); // every operation looks here: one call is faster than three
        }
        if !self.parts.iter().all(Part::is_there) {
            return Err(replaced());
        }
        self.seen = folder;
        Ok(())
    }

    /// Whether others have written since this was asked last.
    pub(crate) fn is_changed(&mut self) -> rusqlite::Result<bool> {
        let version = self.conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        Ok(self.version.replace(version) != Some(version))
    }
}

/// A connection with the settings of this crate.
pub(crate) fn connect(path: &Path, busy_timeout: Duration) -> Result<Connection, CallError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let open = || -> rusqlite::Result<(Connection, String)> {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(busy_timeout)?;
        conn.set_prepared_statement_cache_capacity(64);
        // The log stays when the last client goes: a copy of it into the file costs a flush, and a user who may not write to
        // the folder could not make it again.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let mode = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        // The log is flushed when it is copied into the file. A crash of the host loses the rest of it, and all holders.
        conn.pragma_update(None, "synchronous", "NORMAL")?;
        conn.pragma_update(None, "wal_autocheckpoint", LOG)?;
        conn.pragma_update(None, "journal_size_limit", LOG_KEPT)?;
        Ok((conn, mode))
    };
    let (conn, mode) = open().map_err(CallError::undone)?;
    if mode != "wal" {
        let reason = "its file system has no memory that processes share, which rlock needs there: choose another path";
        return Err(CallError::new(Kind::Refused, reason));
    }
    Ok(conn)
}

pub(crate) fn replaced() -> CallError {
    CallError::new(
        Kind::Undone,
        "the file, or its log beside it, was deleted or replaced while it was in use, and all its locks with it",
    )
}

/// Makes the tables, or checks whose they are.
fn prepare(conn: &mut Connection, clock: &HostClock, turns: &Turns) -> Result<(), CallError> {
    let number = |conn: &Connection, sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
    let read = |conn: &Connection| -> rusqlite::Result<(i64, i64, i64)> {
        let tables = number(conn, "SELECT count(*) FROM sqlite_schema")?;
        Ok((number(conn, "PRAGMA application_id")?, number(conn, "PRAGMA user_version")?, tables))
    };
    let mut found = read(conn).map_err(CallError::undone)?;
    if found == (0, 0, 0) {
        let opens = if turns.is_first() { Moment::default() } else { clock.now().after(GRACE) };
        turns.mark()?;
        create(conn, opens).map_err(CallError::undone)?;
        found = read(conn).map_err(CallError::undone)?;
    }
    let (application, version, _) = found;
    if application != APPLICATION {
        return Err(CallError::new(Kind::Refused, "this is a database of another program: choose another file"));
    }
    if version != VERSION {
        let reason = format!(
            "the file is of version {version}, and this program knows version {VERSION}: run programs of one version of rlock \
             on it, or choose another file"
        );
        return Err(CallError::new(Kind::Refused, reason));
    }
    Ok(())
}

fn create(conn: &mut Connection, opens: Moment) -> rusqlite::Result<()> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 {
        return Ok(()); // another client was quicker
    }
    transaction.execute_batch(include_str!("sql/schema.sql"))?;
    transaction.execute("UPDATE state SET opens = ?", [micros(opens)])?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Sees to it that all times in the file are of this client's clock.
///
/// If they are of another clock, this client [takes over](take_over). The other clients would go on writing times of theirs, so
/// this is only done while none of them has the file open.
fn enter(conn: &mut Connection, clock: &HostClock, presence: &Presence, limit: Duration) -> Result<(), CallError> {
    let found = |conn: &Connection| -> Result<String, CallError> {
        conn.query_row("SELECT clock FROM state", [], |row| row.get(0)).map_err(CallError::undone)
    };
    if found(conn)?.is_empty() {
        // A new file has a grace of this clock already.
        let first = conn.execute("UPDATE state SET clock = ? WHERE clock = ''", [clock.name()]);
        first.map_err(CallError::undone)?;
    }
    // In between, a client with a third clock may have been alone.
    for _ in 0..10 {
        let theirs = found(conn)?;
        if theirs == clock.name() {
            return Ok(());
        }
        let entered = presence.alone(limit, || take_over(conn, clock).map_err(CallError::undone))?;
        if entered.is_none() {
            return Err(CallError::new(
                Kind::Refused,
                format!(
                    "processes that use it count time by another clock ({theirs}, here {}), as in a container with a boot id of \
                     its own or without /proc: give all of them the host's /proc/sys/kernel/random/boot_id, or choose a server \
                     as the store",
                    clock.name()
                ),
            ));
        }
    }
    Err(CallError::new(Kind::Undone, "processes with different clocks take turns at opening the file"))
}

/// Converts the times of all leases to this client's clock. No lease may end early, although no client has the file open: the
/// holder of a handle needs none, and a minimum hold has no holder.
///
/// The time that has passed since a lease was renewed is unknown, so its whole life then is counted again from this moment.
/// If both clocks count from a start of the host, the lease also ends at its old time, when this clock shows that. The start may
/// be the same for both. Otherwise this one came after the renewal, so more time has passed since than between the two times. That
/// does not hold for a file from another host, which looks the same here.
fn take_over(conn: &mut Connection, clock: &HostClock) -> rusqlite::Result<()> {
    const ENTER: &str =
        "UPDATE state SET clock = ?1, opens = 0, last = max(last, (SELECT coalesce(max(last), 0) FROM resources))";
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let theirs: String = transaction.query_row("SELECT clock FROM state", [], |row| row.get(0))?;
    let converted = |time: &str| {
        let latest = format!("?1 + {time} - renewed");
        if clock.is_like(&theirs) { format!("min({time}, {latest})") } else { latest }
    };
    let (since, expires) = (converted("since"), converted("expires"));
    transaction.execute(ENTER, [clock.name()])?;
    transaction.execute_batch("DELETE FROM resources WHERE crowd = 0 AND id IS NULL; DELETE FROM mail")?;
    for table in ["resources", "leases"] {
        let convert =
            format!("UPDATE {table} SET since = {since}, expires = {expires}, renewed = ?1 WHERE id IS NOT NULL");
        transaction.execute(&convert, [micros(clock.now())])?;
    }
    transaction.commit()
}
