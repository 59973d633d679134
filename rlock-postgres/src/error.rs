//! What the server's and the connection's errors say about a request.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rlock_core::{BackendError, ConnectError, Failure};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

use crate::config::Schema;

/// How one call failed.
#[derive(Debug, Clone)]
pub(crate) struct CallError {
    pub(crate) kind: Kind,
    pub(crate) reason: String,
    pub(crate) source: Option<Arc<dyn Error + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was not sent, or the server has answered that nothing was done, and may do it another time.
    Unsent,
    /// The server has answered that it does not write. Another one may, behind a new connection.
    ReadOnly,
    /// It may have been carried out, but no answer says so.
    Unanswered,
    /// It was answered that this will not be done.
    Refused,
}

impl CallError {
    pub(crate) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), source: None }
    }

    /// That a statement got no answer in time.
    pub(crate) fn late(limit: Duration) -> Self {
        Self::new(Kind::Unanswered, format!("no answer within {limit:?}: the server or the network is stuck or slow"))
    }

    /// That the tables are too young for claims.
    pub(crate) fn early(left: Duration) -> Self {
        let reason = format!(
            "its tables were made a moment ago, and whoever held locks in the database before has {left:?} left to learn of \
             their loss (restart_grace)"
        );
        Self::new(Kind::Unsent, reason)
    }

    /// That an answer is not of the kind that is read.
    pub(crate) fn unreadable(error: sqlx::Error) -> Self {
        Self { source: Some(Arc::new(error)), ..Self::foreign() }
    }

    pub(crate) fn foreign() -> Self {
        Self::new(Kind::Unanswered, "the server gave an answer that rlock's statements do not give")
    }

    /// What came in place of a connection, from the server or from the pool, which has so many for requests.
    pub(crate) fn connecting(error: sqlx::Error, connections: u32) -> Self {
        let (kind, reason) = match &error {
            sqlx::Error::Database(answer) => answered(&**answer, after_connecting),
            sqlx::Error::Io(error) => unreachable(error),
            sqlx::Error::Tls(error) => untrusted(&error.to_string()),
            sqlx::Error::PoolTimedOut => (
                Kind::Unsent,
                format!("all {connections} connections are in use, or none could be opened in time: is the server up?"),
            ),
            sqlx::Error::PoolClosed => (Kind::Refused, POOL_CLOSED.to_owned()),
            // What sqlx says about these shows the character; so would the source.
            sqlx::Error::Configuration(error) if error.to_string().contains("saslprep") => {
                return Self::new(
                    Kind::Refused,
                    "the user or the password has a character that cannot be in one: check them in the URL",
                );
            }
            sqlx::Error::Configuration(error) => (
                Kind::Refused,
                format!("the connection cannot be set up ({error}): check the files that sslcert and sslkey name"),
            ),
            error => (Kind::Unsent, broken(error)),
        };
        Self { kind, reason, source: Some(Arc::new(error)) }
    }

    /// What came in place of the result of a single statement, which is a transaction of its own.
    pub(crate) fn executing(error: sqlx::Error, schema: &Schema) -> Self {
        use sqlx::Error as E;
        let (kind, reason) = match &error {
            E::Database(answer) => answered(&**answer, |code, _| after_executing(code, schema)),
            E::PoolTimedOut => (Kind::Unsent, "all connections are in use, or none could be opened in time".to_owned()),
            E::PoolClosed => (Kind::Refused, POOL_CLOSED.to_owned()),
            E::Configuration(_) | E::InvalidArgument(_) | E::Encode(_) | E::TypeNotFound { .. } => {
                (Kind::Refused, format!("the statement cannot be sent: {error}"))
            }
            E::RowNotFound
            | E::ColumnIndexOutOfBounds { .. }
            | E::ColumnNotFound(_)
            | E::ColumnDecode { .. }
            | E::Decode(_) => {
                (Kind::Unanswered, format!("the server gave an answer that rlock's statements do not give: {error}"))
            }
            error => (Kind::Unanswered, broken(error)),
        };
        Self { kind, reason, source: Some(Arc::new(error)) }
    }

    /// Whether the server is a replica, or read-only for a while: the connection should be dropped, for a new one may
    /// lead to another.
    pub(crate) fn is_read_only(&self) -> bool {
        self.kind == Kind::ReadOnly
    }

    /// Whether the connection it came over should not be used again.
    pub(crate) fn ends_connection(&self) -> bool {
        self.kind == Kind::Unanswered
            || self.is_read_only()
            || matches!(self.code().as_deref(), Some("26000" | "42P05"))
    }

    /// Whether somebody had locked a row, or a table, for longer than is waited for that.
    pub(crate) fn is_locked(&self) -> bool {
        self.code().as_deref() == Some("55P03")
    }

    /// Whether there are no tables.
    pub(crate) fn is_without_tables(&self) -> bool {
        matches!(self.code().as_deref(), Some("42P01" | "3F000"))
    }

    /// Returns true if the schema or a table is not to be trusted.
    pub(crate) fn is_untrusted(&self) -> bool {
        self.code().as_deref() == Some(UNTRUSTED)
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        let error = self.source.as_deref()?.downcast_ref::<sqlx::Error>()?;
        error.as_database_error()?.code()
    }

    pub(crate) fn into_backend_error(self, operation: &'static str, store: &Arc<str>) -> BackendError {
        let failure = Failure { operation, store: store.clone(), reason: self.reason, source: self.source };
        match self.kind {
            Kind::Unsent | Kind::ReadOnly => BackendError::NotApplied(failure),
            Kind::Unanswered => BackendError::Unknown(failure),
            Kind::Refused => BackendError::Rejected(failure),
        }
    }

    pub(crate) fn into_connect_error(self, store: &Arc<str>) -> ConnectError {
        let failure = Failure { operation: "connect", store: store.clone(), reason: self.reason, source: self.source };
        if self.kind == Kind::Refused { ConnectError::Rejected(failure) } else { ConnectError::Unreachable(failure) }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// The code by which schema.sql and check.sql refuse a schema, and which no other statement causes.
const UNTRUSTED: &str = "22P02";
const POOL_CLOSED: &str = "the pool of connections was closed: open another, and a backend on that";
const LOGIN: &str = "check the user and the password in the URL, and what the server's pg_hba.conf lets them do";
const NO_DATABASE: &str = "create the database, or name another one in the URL";
const NOT_READY: &str = "it is starting, stopping or recovering";

/// What the server says, with the remedy that `judge` knows for its code and message, or else the server's own.
fn answered(answer: &dyn DatabaseError, judge: impl FnOnce(&str, &str) -> (Kind, String)) -> (Kind, String) {
    let code = answer.code().unwrap_or_default();
    let (kind, mut remedy) = judge(&code, answer.message());
    if remedy.is_empty() {
        let hint = answer.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::hint);
        remedy = hint.map_or_else(String::new, |hint| hint.trim_end_matches('.').to_owned());
    }
    let separator = if remedy.is_empty() { "" } else { ": " };
    (kind, format!("the server answered {code}, {}{separator}{remedy}", answer.message()))
}

/// What the code of an error says about a connection. The codes are in the appendix A of the manual of Postgres,
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>; PgBouncer has 08P01 for most of what it says.
fn after_connecting(code: &str, message: &str) -> (Kind, String) {
    let said = |words: &str| message.contains(words);
    let (kind, remedy) = match code {
        "08P01" if said("unsupported startup parameter") => {
            (Kind::Refused, "let the pooler ignore it (ignore_startup_parameters), or leave it out of the URL")
        }
        "08P01" if said("no such database") => (Kind::Refused, NO_DATABASE),
        "08P01" if said("no such user") || said("authentication failed") => (Kind::Refused, LOGIN),
        "28000" | "08P01" if said("no encryption") || said("SSL off") || said("SSL required") => (
            Kind::Refused,
            "if it wants TLS, add sslmode=require, or verify-full, to the URL; otherwise see its pg_hba.conf",
        ),
        "28000" | "28P01" => (Kind::Refused, LOGIN),
        "3D000" | "57P04" => (Kind::Refused, NO_DATABASE),
        "42501" => (Kind::Refused, "the role needs CONNECT on the database"),
        "53300" => (Kind::Unsent, "raise its max_connections, or use fewer, by the option connections of the URL"),
        "57P01" | "57P02" | "57P03" => (Kind::Unsent, NOT_READY),
        _ if is_passing(code) || code.starts_with("08") || code.starts_with("58") => (Kind::Unsent, ""),
        _ => (Kind::Refused, ""),
    };
    (kind, remedy.to_owned())
}

/// What the code of an error says about a statement that is a transaction of its own. An error means that it was rolled
/// back, unless the server or a pooler says that the connection ends: that may cut into a commit.
fn after_executing(code: &str, schema: &Schema) -> (Kind, String) {
    let schema = schema.as_str();
    let (kind, remedy) = match code {
        "40003" => (Kind::Unanswered, ""),
        "57P01" | "57P02" => (Kind::Unanswered, "it is shut down, or somebody ended the connection"),
        "57P05" | "25P03" | "25P04" => {
            (Kind::Unanswered, "a timeout that is set for the role or the database ended the connection")
        }
        // Poolers say so of a server that they have lost, whatever it was doing.
        _ if code.starts_with("08") || code.starts_with("58") => (Kind::Unanswered, ""),
        "25006" => (Kind::ReadOnly, "it is a replica, or read-only; let the URL name the primary"),
        "57P03" => (Kind::Unsent, NOT_READY),
        "57014" => (Kind::Unsent, "its statement_timeout, or somebody, cancelled the statement"),
        "55P03" => {
            (Kind::Unsent, "somebody holds a lock on rlock's tables, or on a row of them, for longer than lock_timeout")
        }
        "53100" => (Kind::Unsent, "its disk is full; make room on it"),
        "26000" | "42P05" => {
            (Kind::Unsent, "a pooler has mixed up the sessions; let it do so per session, or upgrade it")
        }
        _ if is_passing(code) => (Kind::Unsent, ""),
        // It is asked for when a backend connects, so they have gone, and whoever took them may be about to bring others.
        "42P01" | "3F000" => {
            return (
                Kind::Unsent,
                format!(
                    "the schema {schema:?} has no tables of rlock's: create them by `rlock schema` or \
                     PostgresBackend::ensure_schema"
                ),
            );
        }
        UNTRUSTED => (Kind::Refused, ""), // its message has the remedy
        "42703" => {
            return (
                Kind::Refused,
                format!(
                    "the tables in the schema {schema:?} are of another version of rlock: use that version, or another \
                     schema, with tables by `rlock schema` or PostgresBackend::ensure_schema"
                ),
            );
        }
        "42501" => {
            return (
                Kind::Refused,
                format!(
                    "the role needs USAGE on the schema {schema:?}, and SELECT, INSERT, UPDATE and DELETE on all \
                     tables in it"
                ),
            );
        }
        "28000" | "28P01" => (Kind::Refused, LOGIN),
        "3D000" | "57P04" => (Kind::Refused, NO_DATABASE),
        "22021" | "22P05" => (
            Kind::Refused,
            "the encoding of the database does not have all characters; use a database with the encoding UTF8",
        ),
        _ => (Kind::Refused, ""),
    };
    (kind, remedy.to_owned())
}

/// Whether a code says that nothing was done for a reason that passes.
fn is_passing(code: &str) -> bool {
    matches!(code, "25006" | "26000" | "40001" | "40P01" | "42P05" | "55006" | "55P03" | "57014" | "57P03")
        || code.starts_with("53")
}

/// What keeps a connection from being opened.
fn unreachable(error: &io::Error) -> (Kind, String) {
    let said = error.to_string().to_lowercase();
    // rustls tells of certificates by errors of the connection.
    if said.contains("certificate") || said.contains("unknownca") {
        return untrusted(&error.to_string());
    }
    let reason = match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused: is the server running?".to_owned(),
        io::ErrorKind::TimedOut => "the server could not be reached in time".to_owned(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => format!(
            "a file cannot be opened ({error}): the server's socket, if that is what the URL names, or a file that \
             sslrootcert, sslcert or sslkey name"
        ),
        _ if said.contains("lookup") || said.contains("resolve") => {
            "the host name is not known: check the host in the URL".to_owned()
        }
        _ => format!("the connection broke: {error}"),
    };
    (Kind::Unsent, reason)
}

/// What keeps TLS from being set up: for good, if it is what was agreed on, and not the connection.
fn untrusted(error: &str) -> (Kind, String) {
    let said = error.to_lowercase();
    if said.contains("does not support tls") {
        return (Kind::Refused, "the server does not speak TLS: let it, or use sslmode=prefer".to_owned());
    }
    let lasting =
        ["certificate", "unknownca", "key", "name", "pem", "section"].into_iter().any(|word| said.contains(word));
    (
        if lasting { Kind::Refused } else { Kind::Unsent },
        format!(
            "TLS could not be set up ({error}): check sslmode and the files that sslrootcert, sslcert and sslkey name, \
             and the server's certificate"
        ),
    )
}

fn broken(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => format!("the connection broke: {error}"),
        error => format!("the connection broke: {error}"),
    }
}

#[cfg(test)]
mod tests;
