//! Errors of SQLite and of the file system, and whether the request was applied.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rlock_core::{BackendError, Cause, ConnectError};

/// How one call failed.
#[derive(Debug, Clone)]
pub(crate) struct CallError {
    pub(crate) kind: Kind,
    pub(crate) cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing was done, and it may be another time.
    Undone,
    /// It may have been done.
    Uncertain,
    /// It will not be done.
    Refused,
}

impl CallError {
    pub(crate) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, cause: Cause::new(reason) }
    }

    /// The failure of a transaction before its commit.
    pub(crate) fn undone(error: rusqlite::Error) -> Self {
        Self::of(error, Kind::Undone)
    }

    /// The failure of a commit.
    pub(crate) fn committing(error: rusqlite::Error) -> Self {
        Self::of(error, Kind::Uncertain)
    }

    /// A failure of the file system with a file or a folder.
    pub(crate) fn file(what: &str, path: &Path, error: io::Error) -> Self {
        let (kind, remedy) = match error.kind() {
            io::ErrorKind::PermissionDenied => (Kind::Refused, "; choose a path that this user may write to"),
            io::ErrorKind::NotFound => (Kind::Refused, "; create what is missing, or choose another path"),
            io::ErrorKind::ReadOnlyFilesystem => (Kind::Refused, "; choose a path that can be written to"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (Kind::Undone, "; make room on the disk"),
            io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidFilename => (Kind::Refused, "; choose another path"),
            _ => (Kind::Undone, ""),
        };
        let reason = format!("cannot {what} {}: {error}{remedy}", path.display());
        Self { kind, cause: Cause::new(reason).caused_by(error) }
    }

    fn of(error: rusqlite::Error, otherwise: Kind) -> Self {
        let (kind, reason) = match error.sqlite_error() {
            Some(answer) => explained(answer.extended_code.unsigned_abs(), &error.to_string(), otherwise),
            None => (otherwise, error.to_string()),
        };
        Self { kind, cause: Cause::new(reason).caused_by(error) }
    }

    pub(crate) fn into_backend_error(self, operation: &'static str, store: &Arc<str>) -> BackendError {
        let failure = self.cause.into_failure(operation, store);
        match self.kind {
            Kind::Undone => BackendError::NotApplied(failure),
            Kind::Uncertain => BackendError::Unknown(failure),
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

/// By the result codes of SQLite, of which the lower eight bits are the kind: <https://sqlite.org/rescode.html>.
fn explained(code: u32, message: &str, otherwise: Kind) -> (Kind, String) {
    let (kind, remedy) = match code & 0xff {
        3 | 23 => (Kind::Refused, "this user may not write to the file"),
        5 | 6 => (Kind::Undone, "another program has the file locked; if it goes on, find it by lsof"),
        8 => (Kind::Refused, "the file, its folder or its file system cannot be written to by this user"),
        10 => (otherwise, "the disk, or its file system, fails"),
        11 => (Kind::Refused, "the file is damaged: move it away, with the ones beside it that are named alike"),
        13 => (Kind::Undone, "the disk is full; make room on it"),
        14 => (Kind::Refused, "the file cannot be opened: has this user the right to its folder?"),
        26 => (Kind::Refused, "this is no file of rlock's: choose another one"),
        _ => return (otherwise, format!("SQLite says: {message} ({code})")),
    };
    (kind, format!("{remedy} (SQLite says: {message}, {code})"))
}
