//! Errors of URLs and options.

use rlock_core::{InvalidName, InvalidOption};
use url::ParseError;

/// The options of rlock.
pub(super) const OURS: [&str; 9] = [
    "namespace",
    "schema",
    "connections",
    "timeout",
    "connect_timeout",
    "restart_grace",
    "create",
    "listen",
    "listen_url",
];
const SQLX: &str = "sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, port, dbname, user, password, \
                    application_name, options and options[…]";

/// The fault in a URL or an option, and its remedy. It never shows the user or the password.
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
    /// The URL or `PGSSLMODE` asks for TLS, which is not built in.
    #[error(
        "an sslmode stricter than prefer needs the feature \"tls\" of rlock-postgres, which is off: enable it, or use \
         sslmode=prefer"
    )]
    TlsOff,
    /// The URL names no host.
    #[error(
        "the Postgres URL names no host: write postgres://host:port/database, or for a socket the directory it is in, \
         as postgres://%2Fvar%2Frun%2Fpostgresql/database"
    )]
    NoHost,
    /// The host is malformed, or there are several.
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
    /// There is an `@` after the host, where no user and no password can be.
    #[error(
        "the Postgres URL has an @ after its host: in a password write / as %2F and ? as %3F, in an option @ as %40"
    )]
    At,
    /// The URL contains a `#`, which ends a URL.
    #[error("the Postgres URL has a # in it: if that belongs to the user or the password, write it as %23")]
    Fragment,
    /// A part is not UTF-8 without zero bytes after percent-decoding.
    #[error("the {part} of the Postgres URL is not UTF-8 without zero bytes once percent-decoded: check the % in it")]
    NotText {
        /// The part of the URL.
        part: &'static str,
    },
    /// sqlx, which opens the connections, does not accept the URL.
    #[error("sqlx cannot connect by the Postgres URL: write postgres://user:password@host:port/database?option=value")]
    NotAccepted,
    /// The option is unknown.
    #[error("the Postgres URL has an unknown option {option:?}: there are {}, and sqlx's {}", OURS.join(", "), SQLX)]
    UnknownOption {
        /// The option, unless it looks like a part of a password.
        option: String,
    },
    /// The option is unknown. The error does not repeat it: if a password contains an `&` that is not written as `%26`,
    /// this is the rest of the password.
    #[error(
        "the Postgres URL has an unknown option behind a password: write & in a password as %26; there are {}, and \
         sqlx's {}", OURS.join(", "), SQLX
    )]
    UnknownBehindPassword,
    /// An option is given twice.
    #[error("the Postgres URL has the option {option} twice: keep one of them")]
    Repeated {
        /// The option, by the first of its names.
        option: &'static str,
    },
    /// The namespace cannot be used.
    #[error("the option namespace of the Postgres URL: {0}")]
    Namespace(InvalidName),
    /// One option gives a server to listen to, and another one turns listening off.
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
