//! Errors of URLs and options.

use rlock_core::{InvalidName, InvalidOption};

/// The options of a URL.
pub(super) const OPTIONS: [&str; 4] = ["namespace", "timeout", "access", "file_system"];

/// The fault in a URL or an option, and its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is not a URL. The error does not repeat it: it may contain a password.
    #[error(
        "the address of an SQLite file begins with its scheme: write sqlite:path/to/file, or sqlite: for the user's own"
    )]
    NoScheme,
    /// It is the URL of something else. The error shows no more than the scheme, because the rest may contain a password.
    #[error("the scheme {scheme:?} is not that of SQLite: write sqlite:path/to/file, or sqlite: for the user's own")]
    Scheme {
        /// The scheme that was given.
        scheme: String,
    },
    /// SQLite would keep the database in the memory of this process.
    #[error("other processes cannot see a database in memory: write sqlite:path/to/file, or memory:")]
    InMemory,
    /// The path is not that of a file.
    #[error("the path {path:?} of the SQLite URL cannot be used: {remedy}")]
    Path {
        /// The path.
        path: String,
        /// The change that would make it work.
        remedy: &'static str,
    },
    /// The environment names no folder for the user's own file.
    #[error("neither XDG_STATE_HOME nor HOME is set to a folder: write the path of the file, as sqlite:path/to/file")]
    NoHome,
    /// The option is unknown.
    #[error("the SQLite URL has an unknown option {option:?}: there are {}; a ? in a path is written %3F", OPTIONS.join(", "))]
    UnknownOption {
        /// The option, unless it looks like a part of a password.
        option: String,
    },
    /// The URL has an option twice.
    #[error("the SQLite URL has the option {option} twice: leave one out")]
    Repeated {
        /// The option.
        option: &'static str,
    },
    /// The namespace cannot be used.
    #[error("the namespace of the SQLite URL: {0}")]
    Namespace(#[source] InvalidName),
    /// An option has a value that cannot be used.
    #[error(transparent)]
    Option(#[from] InvalidOption),
}
