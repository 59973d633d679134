//! Where the server is and how to talk to it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rlock_core::{InvalidName, InvalidOption, Namespace};
use url::Url;

/// Where the Redis server is, and how to talk to it.
///
/// ```
/// use rlock_redis::RedisConfig;
///
/// let config = RedisConfig::from_url("redis://jobs:secret@10.0.0.7:6379/2?namespace=billing&timeout=2s")?;
/// assert_eq!(config.address(), "redis://10.0.0.7:6379/2");
/// # Ok::<(), rlock_redis::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) database: u8,
    pub(crate) namespace: Namespace,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) restart_grace: Duration,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) password: String,
}

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_RESTART_GRACE: Duration = Duration::from_secs(2);

impl RedisConfig {
    /// Reads `redis://user:password@host:port/database?option=value&…`, or `rediss://…` for TLS. `valkey://` and `valkeys://`
    /// mean the same.
    ///
    /// Everything but the scheme and the host may be left out: the port is then 6379, the database 0, and there
    /// is no user (Redis calls that one `default`) and no password. What is special in a URL is percent-encoded.
    ///
    /// | option | what | without it |
    /// | --- | --- | --- |
    /// | `namespace` | the part of the database that is used, as in [`namespace`](Self::namespace) | `rlock` |
    /// | `timeout` | how long a request may take, as `500ms`, `5s`, `1m` | `5s` |
    /// | `connect_timeout` | how long connecting may take | `5s` |
    /// | `restart_grace` | how old a server has to be before it grants, as in [`restart_grace`](Self::restart_grace) | `2s` |
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if it cannot be read or names an option that there is not. No error shows the URL, which
    /// may have a password in it.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        if url.contains('#') {
            return Err(ConfigError::Fragment);
        }
        if names_several(url) {
            return Err(ConfigError::SeveralHosts);
        }
        let url = Url::parse(url).map_err(ConfigError::Malformed)?;
        let tls = match url.scheme() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" if cfg!(feature = "tls") => true,
            "rediss" | "valkeys" => return Err(ConfigError::TlsOff),
            other => return Err(ConfigError::Scheme { scheme: other.to_owned() }),
        };
        let host = decode("host", url.host_str().unwrap_or_default())?;
        if host.is_empty() {
            return Err(ConfigError::NoHost);
        }
        let mut config = Self {
            host,
            port: url.port().unwrap_or(DEFAULT_PORT),
            tls,
            credentials: credentials(&url)?,
            database: database(url.path())?,
            namespace: Namespace::default(),
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_TIMEOUT,
            restart_grace: DEFAULT_RESTART_GRACE,
        };
        for pair in url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (option, value) = pair.split_once('=').unwrap_or((pair, ""));
            config = config.with_option(&decode("options", option)?, &decode("options", value)?)?;
        }
        Ok(config)
    }

    /// Keeps to a part of the database: equal names in two namespaces are two resources.
    #[must_use]
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = namespace;
        self
    }

    /// How long a request may take, reconnecting excluded, before it counts as unanswered.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for zero, and for more than an hour.
    pub fn timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.timeout = InvalidOption::timeout("timeout", timeout)?;
        Ok(self)
    }

    /// How long connecting may take, including TLS and logging in.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for zero, and for more than an hour.
    pub fn connect_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.connect_timeout = InvalidOption::timeout("connect_timeout", timeout)?;
        Ok(self)
    }

    /// How long after the start of the server nothing is claimed, to within the second that it tells its age in.
    ///
    /// A server that was restarted without its data would grant at once what others believe to hold. The grace leaves
    /// them the time to connect again and to be told of the loss; one as long as the longest TTL in use covers also
    /// those who cannot connect (the delayed restart of Redlock, <https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/>).
    /// Zero does without, for a server that keeps every write, or that nobody used before.
    ///
    /// Claims are tried again meanwhile, for as long as the client's
    /// [`retry_for`](rlock_core::ClientBuilder::retry_for): with a longer grace, give it more. Two things are not
    /// covered, and leave the token as the only protection: the time that a server takes to load its data counts as part
    /// of its age; and a server that comes back with data older than what it confirmed may grant to waiters at once.
    ///
    /// The age is `uptime_in_seconds` in the answer to `INFO server`. Connecting fails where the server withholds it, as
    /// from a user without `+info`, unless the grace is zero. If it withholds the age after a reconnect, claims fail until
    /// it tells, while held locks are extended and released as before.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for more than an hour.
    pub fn restart_grace(mut self, grace: Duration) -> Result<Self, ConfigError> {
        self.restart_grace = InvalidOption::grace("restart_grace", grace)?;
        Ok(self)
    }

    /// The server and the database, without the user and the password: what errors call the store.
    pub fn address(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://{}:{}/{}", self.host, self.port, self.database)
    }

    fn with_option(self, option: &str, value: &str) -> Result<Self, ConfigError> {
        match option {
            "namespace" => {
                Namespace::new(value).map(|namespace| self.namespace(namespace)).map_err(ConfigError::Namespace)
            }
            "timeout" => self.timeout(InvalidOption::timeout_of("timeout", value)?),
            "connect_timeout" => self.connect_timeout(InvalidOption::timeout_of("connect_timeout", value)?),
            "restart_grace" => self.restart_grace(InvalidOption::grace_of("restart_grace", value)?),
            _ => Err(ConfigError::UnknownOption { option: InvalidOption::unknown_name(option) }),
        }
    }
}

impl FromStr for RedisConfig {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<Self, ConfigError> {
        Self::from_url(url)
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("address", &self.address())
            .field("namespace", &self.namespace)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("restart_grace", &self.restart_grace)
            .finish_non_exhaustive()
    }
}

/// Why a URL or an option cannot be used, and what would work. It never shows the user or the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is not a URL.
    #[error("the Redis URL cannot be read ({0}): write redis://user:password@host:port/database?option=value")]
    Malformed(url::ParseError),
    /// It is the URL of something else.
    #[error("the scheme {scheme:?} is not one of Redis: use redis:// or, for TLS, rediss://")]
    Scheme {
        /// The scheme that was given.
        scheme: String,
    },
    /// TLS is asked for and not built in.
    #[error("rediss:// needs the feature \"tls\" of rlock-redis, which is off: enable it, or use redis://")]
    TlsOff,
    /// It does not say where the server is.
    #[error("the Redis URL names no host: write redis://host:port/database, for instance redis://localhost")]
    NoHost,
    /// It names several servers.
    #[error("the Redis URL names several servers, and rlock uses one: name the primary")]
    SeveralHosts,
    /// There is a `#` in it, which ends a URL.
    #[error("the Redis URL has a # in it: if that belongs to the user or the password, write it as %23")]
    Fragment,
    /// There is a user without a password.
    #[error("the Redis URL has a user but no password: write user:password@, or :password@ without a user")]
    NoPassword,
    /// What stands behind the host is not a database number. It is not repeated: where a password has a slash in
    /// it that is not written as %2F, this is the rest of the password.
    #[error(
        "what stands behind the host of the Redis URL is not the number of a database: use 0 to 255, or leave it out \
         for 0; a slash in a password is written %2F"
    )]
    Database,
    /// Percent-decoding did not give text.
    #[error("the {part} of the Redis URL is not UTF-8 once percent-decoded: check the % in it")]
    NotText {
        /// The part of the URL.
        part: &'static str,
    },
    /// There is no such option.
    #[error(
        "the Redis URL has an unknown option {option:?}: there are namespace, timeout, connect_timeout and restart_grace"
    )]
    UnknownOption {
        /// The option, if it does not look like a part of a password.
        option: String,
    },
    /// The namespace cannot be used.
    #[error("the option namespace of the Redis URL: {0}")]
    Namespace(InvalidName),
    /// An option has a value that cannot be used.
    #[error(transparent)]
    Option(#[from] InvalidOption),
}

fn credentials(url: &Url) -> Result<Option<Credentials>, ConfigError> {
    let user = Some(decode("user", url.username())?).filter(|user| !user.is_empty());
    match url.password() {
        Some(password) => Ok(Some(Credentials { user, password: decode("password", password)? })),
        None if user.is_some() => Err(ConfigError::NoPassword),
        None => Ok(None),
    }
}

fn names_several(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().contains(',')
}

fn database(path: &str) -> Result<u8, ConfigError> {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => Ok(0),
        number => number.parse().map_err(|_| ConfigError::Database),
    }
}

fn decode(part: &'static str, text: &str) -> Result<String, ConfigError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| ConfigError::NotText { part })?;
    Ok(decoded.into_owned())
}
