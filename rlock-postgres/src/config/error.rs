//! What can be wrong with a URL or an option.

use rlock_core::{InvalidName, InvalidOption};
use url::ParseError;

use super::parts::{OURS, SQLX};

/// Why a URL or an option cannot be used, and what would work. It never shows the user or the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is not a URL.
    #[error("the Postgres URL cannot be read ({0}): write postgres://user:password@host:port/database?option=value")]
    Malformed(ParseError),
    /// It is the URL of something else.
    #[error("the scheme {scheme:?} is not one of Postgres: use postgres:// or postgresql://")]
    Scheme {
        /// The scheme that was given.
        scheme: String,
    },
    /// TLS is asked for, by the URL or by `PGSSLMODE`, and not built in.
    #[error(
        "an sslmode stricter than prefer needs the feature \"tls\" of rlock-postgres, which is off: enable it, or use \
         sslmode=prefer"
    )]
    TlsOff,
    /// It does not say where the server is.
    #[error(
        "the Postgres URL names no host: write postgres://host:port/database, or for a socket the directory it is in, \
         as postgres://%2Fvar%2Frun%2Fpostgresql/database"
    )]
    NoHost,
    /// What stands for the host is none, or several.
    #[error(
        "the host {host:?} of the Postgres URL cannot be used: write one name, one address, or the whole path of the \
         directory of a socket; for several servers, a name that leads to the primary"
    )]
    Host {
        /// The host that was given.
        host: String,
    },
    /// The port is zero.
    #[error("the port of the Postgres URL cannot be 0: use 1 to 65535, or leave it out for 5432")]
    Port,
    /// There is an `@` where no user and no password can be.
    #[error(
        "the Postgres URL has an @ behind its host: in a password write / as %2F and ? as %3F, in an option @ as %40"
    )]
    At,
    /// There is a `#` in it, which ends a URL.
    #[error("the Postgres URL has a # in it: if that belongs to the user or the password, write it as %23")]
    Fragment,
    /// Percent-decoding did not give text.
    #[error("the {part} of the Postgres URL is not UTF-8 without zero bytes once percent-decoded: check the % in it")]
    NotText {
        /// The part of the URL.
        part: &'static str,
    },
    /// sqlx, which opens the connections, does not read it.
    #[error("sqlx cannot connect by the Postgres URL: write postgres://user:password@host:port/database?option=value")]
    NotAccepted,
    /// There is no such option.
    #[error("the Postgres URL has an unknown option {option:?}: there are {}, and sqlx's {}", OURS.join(", "), SQLX)]
    UnknownOption {
        /// The option, if it does not look like a part of a password.
        option: String,
    },
    /// There is no such option. It is not repeated: where a password has an `&` in it that is not written as `%26`, this
    /// is the rest of the password.
    #[error(
        "the Postgres URL has an unknown option behind a password: write & in a password as %26; there are {}, and \
         sqlx's {}", OURS.join(", "), SQLX
    )]
    UnknownBehindPassword,
    /// An option is there twice.
    #[error("the Postgres URL has the option {option} twice: keep one of them")]
    Repeated {
        /// The option, by the first of its names.
        option: &'static str,
    },
    /// The namespace cannot be used.
    #[error("the option namespace of the Postgres URL: {0}")]
    Namespace(InvalidName),
    /// There is somewhere to listen, and nobody is to.
    #[error("listen=off and listen_url contradict each other: leave one of them out")]
    ListenTwice,
    /// The URL of the server to listen to cannot be used.
    #[error("the option listen_url cannot be used: {0}")]
    ListenUrl(Box<Self>),
    /// The URL of the server to listen to has one of rlock's options.
    #[error(
        "the option {option} is not for the URL to listen to: give it to the main one, and percent-encode what belongs \
         to listen_url"
    )]
    NotForListening {
        /// The option.
        option: &'static str,
    },
    /// An option has a value that cannot be used.
    #[error(transparent)]
    Option(#[from] InvalidOption),
}

impl ConfigError {
    pub(super) fn in_listen_url(self) -> Self {
        Self::ListenUrl(Box::new(self))
    }
}
