//! The errors of URLs and options.

use rlock_core::{InvalidName, InvalidOption};

/// The fault in a URL or an option, and its remedy. It never shows the user or the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is not a URL.
    #[error("the Redis URL cannot be read ({0}): write redis://user:password@host:port/database?option=value")]
    Malformed(url::ParseError),
    /// It is the URL of something else.
    #[error(
        "the scheme {scheme:?} is not one of Redis: use redis://, redis-sentinel:// or redis-cluster://, for TLS rediss://, \
         rediss-sentinel:// or rediss-cluster://, and redis+unix:// for a socket"
    )]
    Scheme {
        /// The scheme that was given.
        scheme: String,
    },
    /// The URL asks for TLS, which is not built in.
    #[error("rediss:// needs the feature \"tls\" of rlock-redis, which is off: enable it, or use redis://")]
    TlsOff,
    /// Unix sockets do not exist on this system.
    #[error("redis+unix:// needs a Unix system: use redis://host:port")]
    NoSockets,
    /// The URL names no host.
    #[error("the Redis URL names no host: write redis://host:port/database, for instance redis://localhost")]
    NoHost,
    /// The URL names several servers, and its scheme does not say how they are related.
    #[error(
        "the Redis URL names several servers: write redis-sentinel://host:port,host:port/service for sentinels, \
         redis-cluster://host:port,host:port for a cluster, or name the primary"
    )]
    SeveralHosts,
    /// The sentinels' name of the primary is missing.
    #[error(
        "the URL of the sentinels names no service: write redis-sentinel://host:port,host:port/service, with the name that \
         the primary has in sentinel.conf"
    )]
    NoService,
    /// The URL contains a `#`, which ends a URL.
    #[error("the Redis URL has a # in it: if that belongs to the user or the password, write it as %23")]
    Fragment,
    /// There is a user without a password.
    #[error("the Redis URL has a user but no password: write user:password@, or :password@ without a user")]
    NoPassword,
    /// The text after the host is not a database number. The error does not repeat it: if a password contains a slash
    /// that is not written as %2F, this text is the rest of the password.
    #[error(
        "the text after the host of the Redis URL is not the number of a database: use 0 to 255, or leave it out \
         for 0; write a slash in a password as %2F"
    )]
    Database,
    /// There is an `@` after the host.
    #[error("the Redis URL has an @ after the host: write a slash in a user or a password as %2F")]
    Slash,
    /// A cluster has only the database 0.
    #[error("a Redis Cluster has only the database 0: leave the number out of the URL")]
    DatabaseOfCluster,
    /// A part is not UTF-8 after percent-decoding.
    #[error("the {part} of the Redis URL is not UTF-8 once percent-decoded: check the % in it")]
    NotText {
        /// The part of the URL.
        part: &'static str,
    },
    /// The option is unknown.
    #[error("the Redis URL has an unknown option {option:?}: there are {known}")]
    UnknownOption {
        /// The option, unless it looks like a part of a password.
        option: String,
        /// The options that this kind of URL may have.
        known: &'static str,
    },
    /// An option is given twice.
    #[error("the Redis URL has the option {option} twice: keep one of them")]
    Repeated {
        /// The option.
        option: String,
    },
    /// The namespace cannot be used.
    #[error("the option namespace of the Redis URL: {0}")]
    Namespace(InvalidName),
    /// An option needs TLS, and the URL does not use it.
    #[error("the option {option} needs TLS: write rediss:// instead of redis://, or leave the option out")]
    NeedsTls {
        /// The option.
        option: &'static str,
    },
    /// Of two options that belong together, one is missing.
    #[error("the option {option} needs {missing}: add {missing}, or leave out {option}")]
    Incomplete {
        /// The option that was given.
        option: &'static str,
        /// The option that is missing.
        missing: &'static str,
    },
    /// An option has a value that cannot be used.
    #[error(transparent)]
    Option(#[from] InvalidOption),
}
