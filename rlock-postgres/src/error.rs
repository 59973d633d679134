//! Classifies the errors of the server and of connections.

mod kind;
mod reason;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rlock_core::{BackendError, Cause, ConnectError};

pub(crate) use self::kind::Kind;
use self::reason::{
    POOL_CLOSED, PRIMARY, UNTRUSTED, after_connecting, after_executing, answered, broken, is_of_another_kind,
    unreachable, untrusted,
};
use crate::config::Schema;

/// A failed call.
#[derive(Debug, Clone)]
pub(crate) struct CallError {
    pub(crate) kind: Kind,
    pub(crate) cause: Cause,
}

impl CallError {
    pub(crate) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, cause: Cause::new(reason) }
    }

    /// The error of a statement that timed out.
    pub(crate) fn late(limit: Duration) -> Self {
        Self::new(Kind::Late, format!("no answer within {limit:?}: the server or the network is stuck or slow"))
    }

    /// The error of claims in tables that are too new.
    pub(crate) fn early(left: Duration) -> Self {
        let reason = format!(
            "its tables were created a moment ago, and earlier holders in this database have {left:?} left to learn of \
             their loss (restart_grace)"
        );
        Self::new(Kind::Unsent, reason)
    }

    /// The error of tables of another version.
    pub(crate) fn other_version(found: i32, known: i32, schema: &Schema) -> Self {
        let schema = schema.as_str();
        let remedy = if found > known {
            format!("upgrade this program, or choose another schema than {schema:?}")
        } else {
            format!(
                "if no older program uses them any more, drop the schema {schema:?}, and the tables are created again; \
                 otherwise choose another schema"
            )
        };
        Self::new(
            Kind::Refused,
            format!("the tables are of version {found}, and this program knows version {known}: {remedy}"),
        )
    }

    /// The error of a server that is a hot standby.
    pub(crate) fn replica() -> Self {
        Self::new(Kind::ReadOnly, format!("the server is a hot standby: {PRIMARY}"))
    }

    /// The error of tables from another build, without the procedures of this one.
    pub(crate) fn without_procedures(schema: &Schema) -> Self {
        let reason = format!(
            "the schema {:?} lacks the procedures of this version of rlock: run the output of `rlock schema` as a role \
             that may create in it",
            schema.as_str()
        );
        Self::new(Kind::Incomplete, reason)
    }

    /// The error of creating the tables.
    pub(crate) fn making(error: sqlx::Error, schema: &Schema) -> Self {
        let error = Self::executing(error, schema);
        if !error.is_denied() {
            return error;
        }
        let name = schema.as_str();
        let reason = format!(
            "the schema {name:?} lacks tables or procedures of rlock, and the role may not create them ({}): let a \
             superuser or the owner of the database run the output of `rlock schema`, and then GRANT USAGE ON SCHEMA \
             {name} and GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} to the role; or grant it \
             CREATE on the database",
            error.cause.source.as_ref().map_or_else(String::new, ToString::to_string)
        );
        Self { kind: Kind::Refused, cause: Cause { reason, ..error.cause } }
    }

    fn is_denied(&self) -> bool {
        self.code().as_deref() == Some("42501")
    }

    /// The error of an unexpected answer.
    pub(crate) fn unreadable(error: sqlx::Error) -> Self {
        let Self { kind, cause } = Self::foreign();
        Self { kind, cause: cause.caused_by(error) }
    }

    pub(crate) fn foreign() -> Self {
        Self::new(Kind::Unanswered, "the server gave an unexpected answer")
    }

    /// The error of opening a connection, from the server or from the pool, which has `connections` for requests.
    pub(crate) fn connecting(error: sqlx::Error, connections: u32) -> Self {
        let (kind, reason) = match &error {
            sqlx::Error::Database(answer) => answered(&**answer, after_connecting),
            sqlx::Error::Io(error) => unreachable(error),
            sqlx::Error::Tls(error) => untrusted(&error.to_string()),
            sqlx::Error::Protocol(error) if is_of_another_kind(error) => {
                (Kind::NoPostgres, "this is no Postgres server: check the host and the port in the URL".to_owned())
            }
            sqlx::Error::PoolTimedOut => (
                Kind::Unsent,
                format!("all {connections} connections are in use, or none could be opened in time: is the server up?"),
            ),
            sqlx::Error::PoolClosed => (Kind::Refused, POOL_CLOSED.to_owned()),
            // sqlx's message and source show the character.
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
        Self { kind, cause: Cause::new(reason).caused_by(error) }
    }

    /// The error of a single statement, which is a transaction of its own.
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
            | E::Decode(_) => (Kind::Unanswered, format!("the server gave an unexpected answer: {error}")),
            error => (Kind::Unanswered, broken(error)),
        };
        Self { kind, cause: Cause::new(reason).caused_by(error) }
    }

    /// Whether the server is a replica, or read-only for a while. Drop the connection then, because a new one may lead
    /// to another server.
    pub(crate) fn is_read_only(&self) -> bool {
        self.kind == Kind::ReadOnly
    }

    /// Whether the request timed out.
    pub(crate) fn is_late(&self) -> bool {
        self.kind == Kind::Late
    }

    /// Whether the connection must not be reused.
    pub(crate) fn ends_connection(&self) -> bool {
        self.kind == Kind::Unanswered
            || self.is_read_only()
            || matches!(self.code().as_deref(), Some("26000" | "42P05"))
    }

    /// Whether another session kept a row or a table locked for longer than `lock_timeout`.
    pub(crate) fn is_locked(&self) -> bool {
        self.code().as_deref() == Some("55P03")
    }

    /// Whether the tables, or the procedures of this version, are missing.
    pub(crate) fn is_without_tables(&self) -> bool {
        self.kind == Kind::Incomplete || matches!(self.code().as_deref(), Some("42P01" | "3F000" | "42883"))
    }

    /// Whether the schema or a table is not to be trusted.
    pub(crate) fn is_untrusted(&self) -> bool {
        self.code().as_deref() == Some(UNTRUSTED)
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        let error = self.cause.source.as_deref()?.downcast_ref::<sqlx::Error>()?;
        error.as_database_error()?.code()
    }

    pub(crate) fn into_backend_error(self, operation: &'static str, store: &Arc<str>) -> BackendError {
        let failure = self.cause.into_failure(operation, store);
        match self.kind {
            Kind::Unsent | Kind::ReadOnly | Kind::NoPostgres => BackendError::NotApplied(failure),
            Kind::Unanswered | Kind::Late => BackendError::Unknown(failure),
            Kind::Refused | Kind::Incomplete => BackendError::Rejected(failure),
        }
    }

    pub(crate) fn into_connect_error(self, store: &Arc<str>) -> ConnectError {
        let failure = self.cause.into_failure("connect", store);
        let is_refused = matches!(self.kind, Kind::Refused | Kind::Incomplete | Kind::NoPostgres);
        if is_refused { ConnectError::Rejected(failure) } else { ConnectError::Unreachable(failure) }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause.reason)
    }
}

#[cfg(test)]
mod tests;
