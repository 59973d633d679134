//! The configuration of a connection: server, options and credentials.

mod error;
mod parts;
mod schema;
mod server;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rlock_core::{InvalidOption, Namespace};
use sqlx::postgres::{PgConnectOptions, PgPool};

pub use self::error::ConfigError;
use self::parts::Parts;
pub(crate) use self::schema::Schema;
use self::server::Server;

/// The address of the Postgres server, and the options of a connection to it.
///
/// ```
/// use rlock_postgres::PostgresConfig;
///
/// let config = PostgresConfig::from_url("postgres://jobs:secret@10.0.0.7:5432/app?namespace=billing&timeout=2s")?;
/// assert_eq!(config.address(), "postgres://10.0.0.7:5432/app");
/// # Ok::<(), rlock_postgres::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    pub(crate) server: Server,
    pub(crate) listen: Listen,
    /// The maximum. A connection that listens to another server is not counted.
    pub(crate) connections: u32,
    pub(crate) settings: Settings,
}

/// The settings of requests, the same for all connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) namespace: Namespace,
    pub(crate) schema: Schema,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) keep_unused: Duration,
    pub(crate) restart_grace: Duration,
    /// Whether connecting creates missing tables.
    pub(crate) creates: bool,
}

/// Whether a connection listens, and to which server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Auto,
    Off,
    /// To this server, because the main URL leads to a pooler.
    At(Box<Server>),
}

const DEFAULT_CONNECTIONS: u32 = 4;
const MOST_CONNECTIONS: u32 = 64;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_RESTART_GRACE: Duration = Duration::from_secs(2);
const DEFAULT_KEEP: Duration = Duration::from_secs(3600);

impl PostgresConfig {
    /// Reads `postgres://user:password@host:port/database?option=value&…`, or `postgresql://…`.
    ///
    /// Instead of the host, the URL may have the directory of a socket, as `%2Fvar%2Frun%2Fpostgresql`, or nothing if
    /// the parameter `host` gives the host or the directory. Percent-encode characters that are special in a URL, an
    /// `@` in an option too; a `+` is a plus.
    ///
    /// | option | effect | default |
    /// | --- | --- | --- |
    /// | `namespace` | the part of the database that is used, as in [`namespace`](Self::namespace) | `rlock` |
    /// | `schema` | the schema that has rlock's tables, as in [`schema`](Self::schema) | `rlock` |
    /// | `connections` | the maximum number of connections, 1 to 64, one of which also listens | `4` |
    /// | `timeout` | the longest time for a request, as `500ms`, `5s`, `1m` | `5s` |
    /// | `connect_timeout` | the longest time for connecting; a number alone is in seconds | `5s` |
    /// | `restart_grace` | the age that the tables need before claims are granted, as in [`restart_grace`](Self::restart_grace) | `2s` |
    /// | `create` | `auto`, or `off`, as in [`without_creating`](Self::without_creating) | `auto` |
    /// | `listen` | `auto`, or `off`, as in [`without_listening`](Self::without_listening) | `auto` |
    /// | `listen_url` | the URL of the server behind a pooler, percent-encoded, as in [`listen_url`](Self::listen_url) | the server of this URL |
    ///
    /// The other parameters are sqlx's, with the meaning that
    /// [`PgConnectOptions`](https://docs.rs/sqlx/0.9/sqlx/postgres/struct.PgConnectOptions.html) gives them:
    ///
    /// | parameter | effect | default |
    /// | --- | --- | --- |
    /// | `sslmode` | `disable` or `allow` (not encrypted), `prefer` (encrypted if TLS can be set up), `require` (encrypted, to any server), `verify-ca` or `verify-full` (only to the server that the URL names); not for sockets | `prefer` |
    /// | `sslrootcert` | with `verify-*`: a file of certificates to trust as well | the system's |
    /// | `sslcert`, `sslkey` | files of the client's certificate | none |
    /// | `host` or `hostaddr`, `port`, `user`, `password`, `dbname` | the same as before the `?`, and overrides it | |
    /// | `application_name` | the name of the connections on the server | `rlock` |
    /// | `options`, `options[…]` | settings of the session, as `options[work_mem]=8MB` | none |
    ///
    /// sqlx takes values that the URL leaves out, except the host, from the environment if they are set there
    /// (`PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`, `PGSSLMODE`, `PGSSLROOTCERT`, `PGSSLCERT`, `PGSSLKEY`, `PGAPPNAME`,
    /// `PGOPTIONS`), and the password from `~/.pgpass`, unless other users may access that file; the error of a refused
    /// login then names it. This call reads both. Files of certificates are read when a connection is opened.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the URL is malformed, repeats an option or has an unknown option. No error shows the URL,
    /// because it may contain a password.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let parts = Parts::of(url)?;
        let mut config = Self {
            server: Server::at(parts.url)?,
            listen: Listen::Auto,
            connections: DEFAULT_CONNECTIONS,
            settings: Settings::default(),
        };
        for (option, value) in parts.ours {
            config = config.with_option(option, &value)?;
        }
        Ok(config)
    }

    /// Uses the connection settings of the application's pool.
    ///
    /// rlock opens its own connections, so that locks stay alive when the application uses all connections of its pool.
    /// [`connections`](Self::connections) limits their number.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TlsOff`] if the settings require encryption, and the feature `tls` is off.
    pub fn from_pool(pool: &PgPool) -> Result<Self, ConfigError> {
        let server = Server::with(PgConnectOptions::clone(&pool.connect_options()))?;
        Ok(Self { server, listen: Listen::Auto, connections: DEFAULT_CONNECTIONS, settings: Settings::default() })
    }

    /// Uses a part of the database: equal names in two namespaces are two resources.
    #[must_use]
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        self.settings.namespace = namespace;
        self
    }

    /// Uses the tables in this schema. Its name has 1 to 63 letters from `a` to `z`, digits and `_`, and does not begin
    /// with a digit.
    ///
    /// Connecting refuses a schema in which every role may create objects, as in `public` before Postgres 15 and in
    /// databases upgraded from there: another role could have created the tables, with triggers that run as your role.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for any other name, and for one that begins with `pg_`, which Postgres keeps for itself.
    pub fn schema(mut self, schema: &str) -> Result<Self, ConfigError> {
        self.settings.schema = Schema::new(schema)?;
        Ok(self)
    }

    /// Opens at most this number of connections, from 1 to 64. The default is 4. One of them listens for notifications
    /// and also serves requests; with a [`listen_url`](Self::listen_url) an additional one listens there.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for zero, and for more than 64.
    pub fn connections(mut self, connections: u32) -> Result<Self, ConfigError> {
        if !(1..=MOST_CONNECTIONS).contains(&connections) {
            return Err(InvalidOption::unusable("connections", connections, CONNECTIONS_REMEDY).into());
        }
        self.connections = connections;
        Ok(self)
    }

    /// Sets the longest time for a request, reconnecting excluded, from 1 ms to 1 h. After it the request counts as
    /// unanswered. The default is 5 s.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for less than a millisecond, and for more than an hour.
    pub fn timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.settings.timeout = InvalidOption::timeout("timeout", timeout)?;
        Ok(self)
    }

    /// Sets the longest time for connecting, TLS and login included, from 1 ms to 1 h. The default is 5 s.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for less than a millisecond, and for more than an hour.
    pub fn connect_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.settings.connect_timeout = InvalidOption::timeout("connect_timeout", timeout)?;
        Ok(self)
    }

    /// Sets the time after the creation of the tables during which no claim is granted, up to 1 h. The default is 2 s.
    ///
    /// A database that was created again, without its data, would at once grant locks that other clients believe they
    /// hold. During the grace these clients reconnect and learn of the loss. A grace as long as the longest TTL in use
    /// also covers clients that cannot reconnect. Zero means no grace, for a new database. A promoted standby has old
    /// tables: the grace does not cover it, and only the token protects against its lost writes.
    ///
    /// Claims are retried meanwhile, for as long as the client's [`retry_for`](rlock_core::ClientBuilder::retry_for):
    /// with a longer grace, make that longer too.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for more than an hour.
    pub fn restart_grace(mut self, grace: Duration) -> Result<Self, ConfigError> {
        self.settings.restart_grace = InvalidOption::grace("restart_grace", grace)?;
        Ok(self)
    }

    /// Keeps the row of a resource for this time after its last lease, because it holds the last token; from a second
    /// to a year, by default an hour. All clients of one database should use the same value, because each client
    /// deletes by its own value.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for less than a second, and for more than a year.
    pub fn keep_unused(mut self, time: Duration) -> Result<Self, ConfigError> {
        if time < Duration::from_secs(1) || time > Duration::from_secs(365 * 24 * 3600) {
            let (option, remedy) = ("keep_unused", "write a duration from 1s to 365days");
            return Err(InvalidOption::unusable(option, format!("{time:?}"), remedy).into());
        }
        self.settings.keep_unused = time;
        Ok(self)
    }

    /// Leaves it to an administrator to create the tables. By default connecting creates missing tables if the role
    /// may.
    #[must_use]
    pub fn without_creating(mut self) -> Self {
        self.settings.creates = false;
        self
    }

    /// Opens no connection for notifications, which a pooler in transaction mode does not pass on: waiters poll
    /// instead.
    #[must_use]
    pub fn without_listening(mut self) -> Self {
        self.listen = Listen::Off;
        self
    }

    /// Listens for notifications at `url`: the server itself, with the same database, if the other connections go
    /// through a pooler in transaction mode. The URL may have sqlx's parameters, but none of rlock's options.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ListenUrl`] if `url` cannot be used.
    pub fn listen_url(mut self, url: &str) -> Result<Self, ConfigError> {
        let parts = Parts::of(url).map_err(ConfigError::in_listen_url)?;
        if let Some((option, _)) = parts.ours.first() {
            return Err(ConfigError::in_listen_url(ConfigError::NotForListening { option }));
        }
        self.listen = Listen::At(Box::new(Server::at(parts.url).map_err(ConfigError::in_listen_url)?));
        Ok(self)
    }

    /// The server and the database, without the user and the password: the name of the store in errors.
    ///
    /// With a socket it is `postgres:///database?host=/directory&port=5432`. It ends after the port if neither the URL
    /// nor the environment names the database.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// Whether requests and notifications use the same server in the same way.
    pub(crate) fn listens_where_it_asks(&self) -> bool {
        self.listen == Listen::Auto
    }

    pub(crate) fn is_to_listen(&self) -> bool {
        self.listen != Listen::Off
    }

    /// The options of connections for requests.
    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        self.server.options.clone()
    }

    /// The options of the connection for notifications, if there is one.
    pub(crate) fn listen_options(&self) -> Option<PgConnectOptions> {
        match &self.listen {
            Listen::Auto => Some(self.connect_options()),
            Listen::Off => None,
            Listen::At(server) => Some(server.options.clone()),
        }
    }

    fn with_option(self, option: &'static str, value: &str) -> Result<Self, ConfigError> {
        match option {
            "namespace" => {
                Namespace::new(value).map(|namespace| self.namespace(namespace)).map_err(ConfigError::Namespace)
            }
            "schema" => self.schema(value),
            "connections" => {
                let number = value.parse().map_err(|_| InvalidOption::unreadable("connections", CONNECTIONS_REMEDY));
                self.connections(number?)
            }
            "restart_grace" => self.restart_grace(InvalidOption::grace_of("restart_grace", value)?),
            "timeout" => self.timeout(InvalidOption::timeout_of("timeout", value)?),
            // libpq takes a plain number as seconds.
            "connect_timeout" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.connect_timeout(InvalidOption::timeout_of("connect_timeout", &format!("{value}s"))?)
            }
            "connect_timeout" => self.connect_timeout(InvalidOption::timeout_of("connect_timeout", value)?),
            "create" => match value {
                "auto" => Ok(self),
                "off" => Ok(self.without_creating()),
                _ => Err(InvalidOption::unreadable("create", "write auto, or off").into()),
            },
            "listen" => match value {
                "auto" => Ok(self),
                "off" if self.listen != Listen::Auto => Err(ConfigError::ListenTwice),
                "off" => Ok(self.without_listening()),
                _ => Err(InvalidOption::unreadable("listen", "write auto, or off").into()),
            },
            "listen_url" if self.listen == Listen::Off => Err(ConfigError::ListenTwice),
            "listen_url" => self.listen_url(value),
            _ => Err(ConfigError::UnknownOption { option: InvalidOption::unknown_name(option) }),
        }
    }
}

impl FromStr for PostgresConfig {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<Self, ConfigError> {
        Self::from_url(url)
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("address", &self.address())
            .field("listen", &self.listen)
            .field("connections", &self.connections)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("Auto"),
            Self::Off => f.write_str("Off"),
            Self::At(server) => f.debug_tuple("At").field(&server.address()).finish(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: Namespace::default(),
            schema: Schema::default(),
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_TIMEOUT,
            keep_unused: DEFAULT_KEEP,
            restart_grace: DEFAULT_RESTART_GRACE,
            creates: true,
        }
    }
}

const CONNECTIONS_REMEDY: &str = "write a number from 1 to 64";

#[cfg(test)]
mod tests;
