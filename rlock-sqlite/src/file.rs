//! The file, open.

use std::time::Duration;

use rlock_core::Moment;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, query, query_scalar};

use crate::SqliteConfig;
use crate::error::{CallError, Kind};
use crate::host::HostClock;
use crate::place::{self, Identity};
use crate::table::micros;
use crate::turns::Turn;

/// Of the tables that this crate makes, and works on.
const VERSION: i64 = 1;
/// In the header of the file: "rlok".
const APPLICATION: i64 = 0x726c_6f6b;
/// How long nothing is claimed in a file that has come in the place of a deleted one, so that whoever held something in
/// that one learns of it first: they look ten times as often.
const GRACE: Duration = Duration::from_secs(1);

/// A connection, which is a thread of its own.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) conn: SqliteConnection,
    identity: Identity,
    /// What SQLite counts of the commits of others.
    version: Option<i64>,
    /// Whether there may be mail.
    pub(crate) is_unread: bool,
}

impl OpenFile {
    /// Opens it, and makes the tables if it is new. By whoever has the turn: others may be about to do the same.
    pub(crate) async fn open(config: &SqliteConfig, clock: &HostClock, turn: &Turn<'_>) -> Result<Self, CallError> {
        let before = place::identity(&config.path);
        let options = SqliteConnectOptions::new()
            .filename(&config.path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            // The log is flushed when it is copied into the file. A crash of the host loses the rest of it, and all holders.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(config.timeout / 2)
            .disable_statement_logging();
        let mut conn = options.connect().await.map_err(CallError::undone)?;
        let mode: String = query_scalar("PRAGMA journal_mode").fetch_one(&mut conn).await.map_err(CallError::undone)?;
        if mode != "wal" {
            let reason =
                "its file system has no memory that processes share, which rlock needs there: choose another place";
            return Err(CallError::new(Kind::Refused, reason));
        }
        prepare(&mut conn, clock, turn).await?;
        let identity = place::identity(&config.path).filter(|&identity| before == Some(identity));
        let Some(identity) = identity else { return Err(replaced()) };
        Ok(Self { conn, identity, version: None, is_unread: true })
    }

    /// Whether it is still the one at its path.
    pub(crate) fn check(&self, config: &SqliteConfig) -> Result<(), CallError> {
        if place::identity(&config.path) == Some(self.identity) { Ok(()) } else { Err(replaced()) }
    }

    /// Looks whether others have written since it did last, and may have left mail.
    pub(crate) async fn notice(&mut self) -> sqlx::Result<()> {
        let version = query_scalar("PRAGMA data_version").fetch_one(&mut self.conn).await?;
        self.is_unread |= self.version.replace(version) != Some(version);
        Ok(())
    }
}

fn replaced() -> CallError {
    CallError::new(Kind::Undone, "the file was deleted or replaced while it was in use, and all its locks with it")
}

/// Makes the tables, or looks whose they are.
async fn prepare(conn: &mut SqliteConnection, clock: &HostClock, turn: &Turn<'_>) -> Result<(), CallError> {
    let number = async |conn: &mut SqliteConnection, sql: &'static str| -> Result<i64, CallError> {
        query_scalar(sql).fetch_one(conn).await.map_err(CallError::undone)
    };
    let application = number(conn, "PRAGMA application_id").await?;
    let version = number(conn, "PRAGMA user_version").await?;
    if application == 0 && version == 0 && number(conn, "SELECT count(*) FROM sqlite_schema").await? == 0 {
        let opens = if turn.is_first() { Moment::default() } else { clock.now().after(GRACE) };
        turn.mark().map_err(|error| CallError::new(Kind::Undone, format!("the file beside it: {error}")))?;
        return create(conn, opens).await.map_err(CallError::undone);
    }
    if application != APPLICATION {
        return Err(CallError::new(Kind::Refused, "this is a database of another program's: choose another file"));
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

async fn create(conn: &mut SqliteConnection, opens: Moment) -> sqlx::Result<()> {
    let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await?;
    transaction.execute(include_str!("sql/schema.sql")).await?;
    query("UPDATE state SET opens = ?").bind(micros(opens)).execute(&mut *transaction).await?;
    transaction.execute(sqlx::AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION}"))).await?;
    transaction.execute(sqlx::AssertSqlSafe(format!("PRAGMA user_version = {VERSION}"))).await?;
    transaction.commit().await
}
