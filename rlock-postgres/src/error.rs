//! What the server's and the connection's errors say about a request.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rlock_core::{BackendError, Failure};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

use crate::config::Schema;

/// Why [`PostgresBackend::connect`](crate::PostgresBackend::connect) did not.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No server answered, or it is not ready; trying again may help.
    #[error(transparent)]
    Unreachable(Failure),
    /// The server will go on refusing until somebody changes something.
    #[error(transparent)]
    Rejected(Failure),
}

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
mod tests {
    use sqlx::error::ErrorKind;

    use super::*;
    use crate::PostgresConfig;

    /// An answer of the server, which sqlx's own type lets nobody make.
    #[derive(Debug, thiserror::Error)]
    #[error("{message}")]
    struct Answer {
        code: &'static str,
        message: &'static str,
    }

    impl DatabaseError for Answer {
        fn message(&self) -> &str {
            self.message
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.code.into())
        }

        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn answer(code: &'static str, message: &'static str) -> sqlx::Error {
        sqlx::Error::Database(Box::new(Answer { code, message }))
    }

    fn executing(error: sqlx::Error) -> CallError {
        let config = PostgresConfig::from_url("postgres://localhost/app?schema=locks").unwrap();
        CallError::executing(error, &config.terms.schema)
    }

    fn connecting(error: sqlx::Error) -> CallError {
        CallError::connecting(error, 4)
    }

    fn rejected(code: &'static str) -> String {
        let store = Arc::from("postgres://localhost:5432/app");
        match executing(answer(code, "no")).into_backend_error("acquire", &store) {
            BackendError::Rejected(failure) => failure.to_string(),
            other => panic!("{code}: {other:?}"),
        }
    }

    #[test]
    fn an_error_that_passes_is_of_a_statement_that_was_not_applied() {
        for code in ["40001", "40P01", "55P03", "57014", "53100", "53300", "53400", "57P03", "55006", "26000", "42P05"]
        {
            assert_eq!(executing(answer(code, "x")).kind, Kind::Unsent, "{code}");
        }
    }

    #[test]
    fn a_server_that_does_not_write_is_marked_and_has_not_applied_it() {
        let error = executing(answer("25006", "cannot execute INSERT in a read-only transaction"));
        assert!(error.is_read_only() && !executing(answer("40001", "x")).is_read_only());
        let error = error.into_backend_error("acquire", &Arc::from("x"));
        assert!(matches!(error, BackendError::NotApplied(_)), "{error:?}");
    }

    #[test]
    fn an_error_that_ends_the_connection_leaves_open_whether_the_statement_was_applied() {
        for code in ["57P01", "57P02", "57P05", "25P04", "08006", "08P01", "58000", "40003"] {
            assert_eq!(executing(answer(code, "x")).kind, Kind::Unanswered, "{code}");
        }
    }

    #[test]
    fn an_error_that_ends_a_login_has_left_everything_unsent() {
        for code in ["57P01", "57P02", "57P03", "08006", "08P01", "58000", "53300"] {
            assert_eq!(connecting(answer(code, "server login has been failing")).kind, Kind::Unsent, "{code}");
        }
    }

    #[test]
    fn a_login_that_somebody_has_to_change_is_rejected() {
        for (code, message, remedy) in [
            ("28P01", "password authentication failed", "the user and the password"),
            ("28000", "no pg_hba.conf entry for host \"::1\", no encryption", "sslmode=require"),
            ("08P01", "SSL required", "sslmode=require"),
            ("28000", "role \"sam\" does not exist", "the user and the password"),
            ("3D000", "database \"app\" does not exist", "create the database"),
            ("42501", "permission denied for database", "CONNECT"),
            ("08P01", "unsupported startup parameter: options", "ignore_startup_parameters"),
            ("08P01", "no such user: sam", "the user and the password"),
            ("08P01", "no such database: app", "create the database"),
        ] {
            match connecting(answer(code, message)).into_connect_error(&Arc::from("x")) {
                ConnectError::Rejected(failure) => assert!(failure.reason.contains(remedy), "{failure}"),
                other => panic!("{code}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_message_says_what_was_tried_on_what_and_what_to_do() {
        for (code, remedy) in [
            ("42703", "the tables in the schema \"locks\" are of another version"),
            ("42501", "USAGE on the schema \"locks\", and SELECT, INSERT, UPDATE and DELETE"),
            ("22021", "the encoding UTF8"),
            ("22P05", "the encoding UTF8"),
        ] {
            let message = rejected(code);
            let start = format!("acquire on postgres://localhost:5432/app failed: the server answered {code}, no: ");
            assert!(message.starts_with(&start) && message.contains(remedy), "{message}");
        }
    }

    #[test]
    fn tables_that_have_gone_may_come_back() {
        for code in ["42P01", "3F000"] {
            let error = executing(answer(code, "no"));
            let remedy = "the schema \"locks\" has no tables of rlock's: create them by `rlock schema`";
            assert!(error.kind == Kind::Unsent && error.reason.contains(remedy), "{error}");
        }
    }

    #[test]
    fn an_error_that_nothing_is_known_of_is_rejected_in_the_words_of_the_server() {
        assert!(rejected("XX000").ends_with("the server answered XX000, no"));
    }

    #[test]
    fn a_connection_that_breaks_leaves_open_whether_the_statement_was_applied() {
        let broken = [
            sqlx::Error::Io(io::ErrorKind::UnexpectedEof.into()),
            sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into()),
            sqlx::Error::Protocol("x".into()),
            sqlx::Error::Tls("x".into()),
            sqlx::Error::WorkerCrashed,
            sqlx::Error::RowNotFound,
            sqlx::Error::Decode("x".into()),
        ];
        for error in broken {
            let error = executing(error);
            assert_eq!(error.kind, Kind::Unanswered, "{error}");
        }
        assert_eq!(CallError::late(Duration::from_secs(5)).kind, Kind::Unanswered);
    }

    #[test]
    fn a_server_that_cannot_be_reached_has_been_sent_nothing() {
        for (error, words) in [
            (sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into()), "is the server running"),
            (sqlx::Error::Io(io::ErrorKind::NotFound.into()), "socket"),
            (sqlx::Error::Io(io::Error::other("failed to lookup address information")), "host name is not known"),
            (sqlx::Error::Protocol("x".into()), "the connection broke"),
            (sqlx::Error::Tls("unexpected EOF".into()), "TLS could not be set up"),
            (sqlx::Error::PoolTimedOut, "all 4 connections are in use"),
        ] {
            let error = connecting(error);
            assert!(error.kind == Kind::Unsent && error.reason.contains(words), "{error:?}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_for_somebody_to_change() {
        for error in [
            sqlx::Error::Io(io::Error::new(io::ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer")),
            sqlx::Error::Io(io::Error::new(io::ErrorKind::InvalidData, "received fatal alert: UnknownCA")),
            sqlx::Error::Tls("Invalid certificate file: ca.pem".into()),
            sqlx::Error::Tls("server does not support TLS".into()),
            sqlx::Error::Configuration("user auth key and certs must be given together".into()),
        ] {
            let error = connecting(error);
            assert_eq!(error.kind, Kind::Refused, "{error}");
        }
    }

    #[test]
    fn a_pool_that_was_closed_is_for_somebody_to_change() {
        assert_eq!(connecting(sqlx::Error::PoolClosed).kind, Kind::Refused);
        assert_eq!(executing(sqlx::Error::PoolClosed).kind, Kind::Refused);
    }

    #[test]
    fn a_character_that_a_password_cannot_have_is_not_shown() {
        let error = connecting(sqlx::Error::Configuration("Failed to saslprep password: ('\\u{7}')".into()));
        assert!(error.kind == Kind::Refused && !format!("{error:?}").contains("u{7}"), "{error:?}");
    }
}
