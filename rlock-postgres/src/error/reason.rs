//! The meaning of errors, and their remedies.

use std::io;
use std::path::PathBuf;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

use super::kind::Kind;
use crate::config::Schema;

/// The error code that only schema.sql and check.sql raise, to refuse a schema.
pub(super) const UNTRUSTED: &str = "22P02";
pub(super) const POOL_CLOSED: &str = "the connection pool was closed: open another one, and a backend on it";
const LOGIN: &str = "check the user and the password in the URL, and what the server's pg_hba.conf lets them do";
const NO_DATABASE: &str = "create the database, or name another one in the URL";
pub(super) const PRIMARY: &str = "it grants nothing; let the URL name the primary";
const NOT_READY: &str = "it is starting, stopping or recovering";

/// The server's message, with the remedy of `judge` for its code and message, or else the server's own hint.
pub(super) fn answered(answer: &dyn DatabaseError, judge: impl FnOnce(&str, &str) -> (Kind, String)) -> (Kind, String) {
    let code = answer.code().unwrap_or_default();
    let (kind, mut remedy) = judge(&code, answer.message());
    if remedy.is_empty() {
        let hint = answer.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::hint);
        remedy = hint.map_or_else(String::new, |hint| hint.trim_end_matches('.').to_owned());
    }
    let separator = if remedy.is_empty() { "" } else { ": " };
    (kind, format!("the server answered {code}, {}{separator}{remedy}", answer.message()))
}

/// The meaning of an error code for a new connection. The codes are in appendix A of the Postgres manual,
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>; PgBouncer uses 08P01 for most of its errors.
pub(super) fn after_connecting(code: &str, message: &str) -> (Kind, String) {
    let said = |words: &str| message.contains(words);
    let (kind, remedy) = match code {
        "08P01" if said("unsupported startup parameter") => {
            (Kind::Refused, "let the pooler ignore it (ignore_startup_parameters), or leave it out of the URL")
        }
        "08P01" if said("no such database") => (Kind::Refused, NO_DATABASE),
        "08P01" if said("no such user") || said("authentication failed") => return (Kind::Refused, login()),
        "28000" | "08P01" if said("no encryption") || said("SSL off") || said("SSL required") => (
            Kind::Refused,
            "if it wants TLS, add sslmode=require, or verify-full, to the URL; otherwise see its pg_hba.conf",
        ),
        "28000" | "28P01" => return (Kind::Refused, login()),
        "3D000" | "57P04" => (Kind::Refused, NO_DATABASE),
        "42501" => (Kind::Refused, "the role needs CONNECT on the database"),
        "53300" if said("for role \"") => (
            Kind::Unsent,
            "raise its limit (ALTER ROLE … CONNECTION LIMIT), or use fewer, by the option connections of the URL",
        ),
        "53300" if said("for database \"") => (
            Kind::Unsent,
            "raise its limit (ALTER DATABASE … CONNECTION LIMIT), or use fewer, by the option connections of the URL",
        ),
        "53300" => (Kind::Unsent, "raise its max_connections, or use fewer, by the option connections of the URL"),
        "57P01" | "57P02" | "57P03" => (Kind::Unsent, NOT_READY),
        _ if is_passing(code) || code.starts_with("08") || code.starts_with("58") => (Kind::Unsent, ""),
        _ => (Kind::Refused, ""),
    };
    (kind, remedy.to_owned())
}

/// The remedy for a refused login. sqlx ignores a password file that other users may access, and only logs that.
fn login() -> String {
    match exposed_password_file() {
        Some(file) => format!(
            "{LOGIN}; if the password is in {}, let only the owner access that file (chmod 600): it is ignored otherwise",
            file.display()
        ),
        None => LOGIN.to_owned(),
    }
}

/// The first password file that sqlx ignores for its permissions, which it checks on Linux alone.
#[cfg(target_os = "linux")]
fn exposed_password_file() -> Option<PathBuf> {
    use std::env;
    use std::os::unix::fs::PermissionsExt as _;
    let named = env::var_os("PGPASSFILE").map(PathBuf::from);
    let usual = env::home_dir().map(|home| home.join(".pgpass"));
    let is_exposed =
        |file: &PathBuf| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o77 != 0);
    [named, usual].into_iter().flatten().find(is_exposed)
}

#[cfg(not(target_os = "linux"))]
fn exposed_password_file() -> Option<PathBuf> {
    None
}

/// The meaning of an error code for a statement that is a transaction of its own. An error means that it was rolled
/// back, unless the server or a pooler ends the connection: that may interrupt a commit.
pub(super) fn after_executing(code: &str, schema: &Schema) -> (Kind, String) {
    let schema = schema.as_str();
    let (kind, remedy) = match code {
        "40003" => (Kind::Unanswered, ""),
        "57P01" | "57P02" => (Kind::Unanswered, "it is shut down, or another session ended the connection"),
        "57P05" | "25P03" | "25P04" => {
            (Kind::Unanswered, "a timeout that is set for the role or the database ended the connection")
        }
        // Poolers answer so when they have lost the server, at any stage of the statement.
        _ if code.starts_with("08") || code.starts_with("58") => (Kind::Unanswered, ""),
        "25006" => (Kind::ReadOnly, PRIMARY),
        "57P03" => (Kind::Unsent, NOT_READY),
        // It may have been cancelled after its commit, during the notifications.
        "57014" => (Kind::Unanswered, "its statement_timeout, or an administrator, cancelled the statement"),
        "54000" => (Kind::Unanswered, "its notification queue is full: end the session that listens and does not read"),
        "55P03" => {
            (Kind::Unsent, "another session locks rlock's tables, or a row of them, for longer than lock_timeout")
        }
        "53100" => (Kind::Unsent, "its disk is full; make room on it"),
        "26000" | "42P05" => (Kind::Unsent, "a pooler has mixed up the sessions; use session pooling, or upgrade it"),
        _ if is_passing(code) => (Kind::Unsent, ""),
        // The tables existed when the backend connected. They may be on their way back, as in a restore.
        "42P01" | "3F000" | "42883" => {
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
        "28000" | "28P01" => return (Kind::Refused, login()),
        "3D000" | "57P04" => (Kind::Refused, NO_DATABASE),
        "22021" | "22P05" => (
            Kind::Refused,
            "the encoding of the database does not have all characters; use a database with the encoding UTF8",
        ),
        _ => (Kind::Refused, ""),
    };
    (kind, remedy.to_owned())
}

/// Whether a code means that nothing was done, for a transient reason.
pub(super) fn is_passing(code: &str) -> bool {
    matches!(code, "25006" | "26000" | "40001" | "40P01" | "42P05" | "55006" | "55P03" | "57P03")
        || code.starts_with("53")
}

/// The kind and the text of an error of opening a connection.
pub(super) fn unreachable(error: &io::Error) -> (Kind, String) {
    let said = error.to_string().to_lowercase();
    // rustls reports faults of certificates as errors of the connection.
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

/// The kind and the text of an error of TLS: final if the settings or a certificate are at fault, transient if the
/// connection is.
pub(super) fn untrusted(error: &str) -> (Kind, String) {
    let said = error.to_lowercase();
    if said.contains("does not support tls") {
        return (Kind::Refused, "the server does not speak TLS: enable TLS there, or use sslmode=prefer".to_owned());
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

/// Whether a server answered the first message as no Postgres does. A Postgres without room for another connection
/// answers with an error there, whose first byte is 0x45. sqlx reports 0x00 if the connection ends without an answer.
pub(super) fn is_of_another_kind(error: &str) -> bool {
    error.contains("response from SSLRequest") && !["0x45", "0x00"].iter().any(|byte| error.contains(byte))
}

pub(super) fn broken(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => format!("the connection broke: {error}"),
        error => format!("the connection broke: {error}"),
    }
}
