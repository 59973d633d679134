//! Classifies the errors of servers and of connections.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;

use etcd_client::Error;
use rlock_core::{BackendError, Cause, ConnectError};

/// A failed call.
#[derive(Debug, Clone)]
pub(crate) struct CallError {
    pub(crate) kind: Kind,
    pub(crate) cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was never carried out.
    Unsent,
    /// It may have been carried out; no answer came.
    Unanswered,
    /// The connection is unusable; the request may have been carried out.
    Broken,
    /// The servers answered that they cannot carry it out now. An immediate retry would fail too.
    Denied,
    /// The servers rejected it.
    Refused,
    /// The etcd lease does not exist. Nothing else of the request was carried out.
    NoLease,
    /// An etcd lease with this id exists already.
    LeaseExists,
}

impl Kind {
    /// Whether a write that failed with it may have been carried out. A server that runs out of space may have carried
    /// out the write that it denies.
    pub(crate) fn may_have_written(self) -> bool {
        !matches!(self, Self::Unsent | Self::Refused)
    }

    /// The kind of the error for a request that was also sent before.
    pub(crate) fn after_a_write(self) -> Self {
        if matches!(self, Self::Unsent | Self::Denied | Self::NoLease) { Self::Unanswered } else { self }
    }
}

impl CallError {
    pub(crate) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, cause: Cause::new(reason) }
    }

    /// The error of a request that timed out.
    pub(crate) fn late(limit: std::time::Duration) -> Self {
        Self::new(Kind::Unanswered, format!("no answer within {limit:?}: the servers or the network are stuck or slow"))
    }

    /// Whether the servers have no leader.
    pub(crate) fn has_no_leader(&self) -> bool {
        self.kind == Kind::Unsent && self.cause.reason.contains(NO_LEADER)
    }

    /// Whether a retry would get the same answer.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.kind, Kind::Denied | Kind::Refused | Kind::NoLease | Kind::LeaseExists)
    }

    pub(crate) fn into_backend_error(self, operation: &'static str, store: &Arc<str>) -> BackendError {
        let failure = self.cause.into_failure(operation, store);
        match self.kind {
            Kind::Unsent | Kind::Denied => BackendError::NotApplied(failure),
            Kind::Unanswered | Kind::Broken | Kind::NoLease | Kind::LeaseExists => BackendError::Unknown(failure),
            Kind::Refused => BackendError::Rejected(failure),
        }
    }

    pub(crate) fn into_connect_error(self, store: &Arc<str>) -> ConnectError {
        let failure = self.cause.into_failure("connect", store);
        if self.kind == Kind::Refused { ConnectError::Rejected(failure) } else { ConnectError::Unreachable(failure) }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause.reason)
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        let (kind, reason) = match &error {
            Error::GRpcStatus(status) => explain(status.code() as i32, status.message(), status.source()),
            Error::TransportError(_) | Error::IoError(_) => transport(error.source()),
            Error::WatchError(_) | Error::LeaseKeepAliveError(_) => (Kind::Broken, "the stream has ended".to_owned()),
            _ => (Kind::Refused, error.to_string()),
        };
        Self { kind, cause: Cause::new(reason).caused_by(error) }
    }
}

const NO_LEADER: &str = "no leader";

// The codes of gRPC.
const CANCELLED: i32 = 1;
const UNKNOWN: i32 = 2;
const INVALID_ARGUMENT: i32 = 3;
const DEADLINE_EXCEEDED: i32 = 4;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const OUT_OF_RANGE: i32 = 11;
const UNAVAILABLE: i32 = 14;
const UNAUTHENTICATED: i32 = 16;

/// The meaning of a gRPC status for a request, by its code and the server's message.
fn explain(code: i32, message: &str, source: Option<&(dyn std::error::Error + 'static)>) -> (Kind, String) {
    let answered = |hint: &str| {
        let separator = if hint.is_empty() { "" } else { ": " };
        format!("etcd answered {message:?}{separator}{hint}")
    };
    // The client library makes a status with a source itself; it is not the server's.
    if source.is_some() || !message.starts_with("etcdserver:") && !message.starts_with("etcdclient:") {
        return match code {
            UNAVAILABLE | UNKNOWN | CANCELLED | DEADLINE_EXCEEDED => transport(source),
            UNAUTHENTICATED | PERMISSION_DENIED => {
                (Kind::Refused, answered("check the user and the password in the URL"))
            }
            // The client library refuses an answer that is longer than its limit.
            OUT_OF_RANGE => (Kind::Refused, format!("the answer is too long: {message}")),
            _ if message.contains("auth") => (Kind::Refused, answered("")),
            _ => (Kind::Broken, format!("the connection broke: {message}")),
        };
    }
    match code {
        _ if message.contains("lease not found") => (Kind::NoLease, answered("")),
        _ if message.contains("lease already exists") => (Kind::LeaseExists, answered("")),
        UNAVAILABLE if message.contains(NO_LEADER) => {
            (Kind::Unsent, answered("most of its members are down, or cut off from it"))
        }
        UNAVAILABLE | CANCELLED | DEADLINE_EXCEEDED | UNKNOWN => (Kind::Unanswered, answered("")),
        RESOURCE_EXHAUSTED if message.contains("space") => (
            Kind::Denied,
            answered(
                "its database is full; compact and defragment it, or raise --quota-backend-bytes, and disarm the alarm",
            ),
        ),
        RESOURCE_EXHAUSTED => (Kind::Unsent, answered("it is overloaded")),
        PERMISSION_DENIED => (
            Kind::Refused,
            answered("the user's role has to read and write all keys that begin with the namespace and a slash"),
        ),
        // Auth tokens end with their TTL, with the server that issued them, and some with a change of users or roles. A
        // new connection gets a new token.
        UNAUTHENTICATED => (Kind::Broken, answered("")),
        _ if message.contains("revision of auth store is old") => (Kind::Broken, answered("")),
        INVALID_ARGUMENT if message.contains("user name is empty") => {
            (Kind::Refused, answered("it wants a user; put user:password@ into the URL"))
        }
        INVALID_ARGUMENT if message.contains("authentication failed") => {
            (Kind::Refused, answered("check the user and the password in the URL"))
        }
        FAILED_PRECONDITION if message.contains("authentication is not enabled") => {
            (Kind::Refused, answered("it has no users; leave user:password@ out of the URL"))
        }
        _ => (Kind::Refused, answered("")),
    }
}

/// The cause of an error of the connection: whether the request can have reached the server, and a text.
fn transport(source: Option<&(dyn std::error::Error + 'static)>) -> (Kind, String) {
    let mut causes = Vec::new();
    let mut next = source;
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    let said = |words: &str| causes.iter().any(|cause| cause.to_lowercase().contains(words));
    let reason = if said("connection refused") {
        "the connection was refused: is the server running?"
    } else if said("lookup") || said("resolve") {
        "the host name is not known: check the hosts in the URL"
    } else if said("certificate") || said("tls") || said("handshake") {
        "TLS could not be set up: does the server speak TLS on this port, with a certificate that is trusted here, and \
         does it require a client certificate?"
    } else if said("connect") && said("timed out") || said("deadline has elapsed") {
        "the server could not be reached in time"
    } else {
        let reason = causes.last().map_or_else(String::new, |cause| format!(": {cause}"));
        return (Kind::Broken, format!("the connection broke{reason}"));
    };
    (Kind::Unsent, reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_that_a_full_database_denies_is_unknown() {
        let (kind, reason) = explain(RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", None);
        assert_eq!(kind, Kind::Denied);
        assert!(kind.may_have_written());
        let store = Arc::<str>::from("etcd://host:2379");
        let denied = CallError::new(kind, reason.clone()).into_backend_error("extend", &store);
        assert!(matches!(denied, BackendError::NotApplied(_)), "{denied:?}");
        let written = CallError::new(kind.after_a_write(), reason).into_backend_error("acquire", &store);
        assert!(matches!(written, BackendError::Unknown(_)), "{written:?}");
    }

    #[test]
    fn only_unsent_and_refused_writes_are_undone() {
        for undone in [Kind::Unsent, Kind::Refused] {
            assert!(!undone.may_have_written(), "{undone:?}");
        }
        for unknown in [Kind::Unanswered, Kind::Broken, Kind::Denied, Kind::NoLease, Kind::LeaseExists] {
            assert!(unknown.may_have_written(), "{unknown:?}");
        }
    }
}
