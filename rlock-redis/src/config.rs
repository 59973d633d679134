//! The configuration of a connection: servers, options and credentials.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rlock_core::{InvalidOption, Namespace, TlsFiles};

use crate::address::Address;

mod error;
mod pairs;
mod servers;
mod url;

pub use error::ConfigError;
pub(crate) use servers::{Credentials, Servers};

use pairs::Pairs;
use url::{Kind, Parts};

/// The addresses of the Redis servers, and the options of connections to them.
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
    pub(crate) servers: Servers,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) database: u8,
    pub(crate) namespace: Namespace,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) restart_grace: Duration,
    pub(crate) replicas: Option<Replicas>,
    /// The announced addresses that are mapped to other ones.
    address_map: BTreeMap<Address, Address>,
}

/// The replicas that have to confirm a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replicas {
    pub(crate) count: u8,
    pub(crate) within: Duration,
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_RESTART_GRACE: Duration = Duration::from_secs(2);

const REPLICAS_REMEDY: &str = "write a number of replicas from 1 to 100";
const TEXT_REMEDY: &str = "write some text";
const MAP_REMEDY: &str = "write pairs as 10.0.0.5:6379=localhost:16379, with commas between them";

impl RedisConfig {
    /// Reads a URL. `valkey` means the same as `redis` in all of these schemes.
    ///
    /// | URL | servers |
    /// | --- | --- |
    /// | `redis://user:password@host:port/database` | one server, which may have replicas |
    /// | `redis-sentinel://user:password@host:port,host:port/service/database` | the primary that these sentinels call `service` |
    /// | `redis-cluster://user:password@host:port,host:port` | a Redis Cluster, of which these are some nodes |
    /// | `redis+unix:///path/of/the/socket` | one server on this host |
    ///
    /// `rediss`, `rediss-sentinel` and `rediss-cluster` use TLS. Only the scheme, the host and the service are
    /// required. The default port is 6379, or 26379 for sentinels, the default database is 0, and by default there is
    /// no user (Redis calls that one `default`) and no password. Percent-encode characters that are special in a URL.
    /// The pairs of several `address_map` add up; any other option may be there once.
    ///
    /// | option | effect | default |
    /// | --- | --- | --- |
    /// | `namespace` | the part of the database that is used, as in [`namespace`](Self::namespace) | `rlock` |
    /// | `timeout` | the longest time for a request, as `500ms`, `5s`, `1m` | `5s` |
    /// | `connect_timeout` | the longest time for connecting | `5s` |
    /// | `restart_grace` | the time after the start of a server without grants, as in [`restart_grace`](Self::restart_grace) | `2s` |
    /// | `wait_replicas`, `wait_timeout` | the number of replicas that have to confirm a grant, and the time for that, as in [`wait_replicas`](Self::wait_replicas) | none, `1s` |
    /// | `ca` | with TLS: a file of certificates to trust, as in [`ca`](Self::ca) | the system's |
    /// | `cert`, `key` | with TLS: files of the client's certificate, as in [`identity`](Self::identity) | none |
    /// | `sentinel_user`, `sentinel_password` | the credentials for the sentinels | none |
    /// | `address_map` | with sentinels or a cluster: other addresses for announced ones, as in [`address_map`](Self::address_map) | none |
    /// | `db`, `user`, `pass` | with a socket: the database and the credentials | 0, none |
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the URL is malformed, repeats an option or has an unknown option. No error shows the URL,
    /// because it may contain a password.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let parts = Parts::of(url)?;
        let mut config = Self {
            servers: parts.servers,
            tls: parts.tls.then(TlsFiles::default),
            credentials: parts.credentials,
            database: parts.database,
            namespace: Namespace::default(),
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_TIMEOUT,
            restart_grace: DEFAULT_RESTART_GRACE,
            replicas: None,
            address_map: BTreeMap::new(),
        };
        let mut pairs = Pairs::default();
        let mut seen = Vec::new();
        for (option, value) in parts.options {
            config = config.with_option(parts.kind, &option, value, &mut pairs)?;
            if option != "address_map" && seen.contains(&option) {
                return Err(ConfigError::Repeated { option });
            }
            seen.push(option);
        }
        if let Some((count, within)) = pairs.wait_replicas()? {
            config = config.wait_replicas(count, within)?;
        }
        if let Some((cert, key)) = pairs.identity()? {
            config = config.identity(cert, key)?;
        }
        if let Servers::Sentinels { credentials, .. } = &mut config.servers {
            *credentials = pairs.sentinel_credentials()?;
        }
        if let Some(credentials) = pairs.credentials()? {
            config.credentials = Some(credentials);
        }
        Ok(config)
    }

    /// Uses a part of the database: equal names in two namespaces are two resources.
    #[must_use]
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = namespace;
        self
    }

    /// Sets the longest time for a request, reconnecting excluded, from 1 ms to 1 h. After it the request counts as
    /// unanswered. The default is 5 s.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for less than a millisecond, and for more than an hour.
    pub fn timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.timeout = InvalidOption::timeout("timeout", timeout)?;
        Ok(self)
    }

    /// Sets the longest time for connecting, TLS and login included, from 1 ms to 1 h. The default is 5 s.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for less than a millisecond, and for more than an hour.
    pub fn connect_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.connect_timeout = InvalidOption::timeout("connect_timeout", timeout)?;
        Ok(self)
    }

    /// Sets the time after the start of a server during which it grants nothing, up to 1 h. The default is 2 s. The time
    /// is accurate to a second, the unit of the server's uptime. After the promotion of a replica, and with sentinels
    /// and a cluster, it counts from the moment at which the first client finds the server in its role. So the first
    /// lock there takes this long, unless the server has run for a minute more than the grace and was not promoted.
    ///
    /// A server that was restarted without its data would at once grant locks that other clients believe they hold. So
    /// would a replica that did not receive the last grants. During the grace the holders connect and learn of the
    /// loss. A grace as long as the longest TTL in use also covers holders that cannot connect (the delayed restart of
    /// Redlock, <https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/>). Held locks are extended
    /// and released meanwhile. Zero means no grace: for a server that keeps every write, or for a new one.
    ///
    /// Claims are retried meanwhile, for as long as the client's [`retry_for`](rlock_core::ClientBuilder::retry_for):
    /// with a longer grace, make that longer too. Three cases are not covered, and only the token protects there: the
    /// time that a single server takes to load its data counts as part of its age, a clock of the server that is set
    /// forward during the grace ends it, and a server that is demoted and promoted again within a second may grant over
    /// connections that stayed open. A connection in use asks the server again each second.
    ///
    /// On a cluster and under sentinels the time is a second longer: so long clients may still use an old primary that
    /// runs on. Zero stays zero.
    ///
    /// The age is `uptime_in_seconds` in the answer to `INFO`, which also shows a promotion. If the server's clock was set
    /// back to before its start, the time counts from the first client, as after a promotion. When that clock reaches the
    /// start again, connections that are opened within the grace wait for its end once more.
    ///
    /// Connecting fails if the server withholds its age, as from a user without `+info`, unless the grace is zero. If the
    /// server withholds it later, claims fail until it reports the age again, while held locks are extended
    /// and released as before.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for more than an hour.
    pub fn restart_grace(mut self, grace: Duration) -> Result<Self, ConfigError> {
        self.restart_grace = InvalidOption::grace("restart_grace", grace)?;
        Ok(self)
    }

    /// Counts a grant only once `count` replicas, from 1 to 100, have confirmed it within the time `within`, from 1 ms to
    /// 1 h. A grant that they do not confirm is released, and the claim fails with an error that says so. By default a
    /// grant waits for no replica.
    ///
    /// This reduces the risk of losing a grant by a failover, and does not remove it: a replica that has not confirmed
    /// the grant may be promoted, and a replica that has may have lost it since, by a restart. Extensions and releases
    /// are not confirmed: after a failover a lease may end by up to one interval of the watchdog earlier, and a
    /// released one may stay until it expires. A claim costs one more round trip and the time that the replicas take.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for a count of zero or more than 100, and for a time of less than a millisecond or more
    /// than an hour.
    pub fn wait_replicas(mut self, count: u8, within: Duration) -> Result<Self, ConfigError> {
        if !(1..=100).contains(&count) {
            return Err(InvalidOption::unusable("wait_replicas", count, REPLICAS_REMEDY).into());
        }
        self.replicas = Some(Replicas { count, within: InvalidOption::timeout("wait_timeout", within)? });
        Ok(self)
    }

    /// Connects to other addresses than those that sentinels and the nodes of a cluster announce, because the
    /// connections go through a tunnel, a proxy or the published port of a container. Each pair is an announced
    /// `host:port` and the `host:port` to connect to; a certificate has to name the latter host. The hosts of the URL
    /// itself are not mapped.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for an address that is not `host:port`.
    pub fn address_map<'a>(mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ConfigError> {
        let read = |text: &str| {
            let address = Address::parse(text.trim(), &Address::Socket(PathBuf::new()));
            let has_host = |address: &Address| matches!(address, Address::Host { host, .. } if !host.is_empty());
            address.filter(has_host).ok_or_else(|| InvalidOption::unusable("address_map", text, MAP_REMEDY))
        };
        for (announced, reached) in pairs {
            self.address_map.insert(read(announced)?, read(reached)?);
        }
        Ok(self)
    }

    /// The address to connect to for an announced one.
    pub(crate) fn reached(&self, announced: Address) -> Address {
        self.address_map.get(&announced).cloned().unwrap_or(announced)
    }

    /// Trusts the certificates in `file`, in PEM, instead of the system's.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NeedsTls`] if the URL does not use TLS, [`ConfigError::Option`] for an empty name.
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        self.tls("ca")?.trust(file.into())?;
        Ok(self)
    }

    /// Presents a client certificate to the servers: the one in the file `cert`, whose private key is in the file
    /// `key`, both in PEM.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NeedsTls`] if the URL does not use TLS, [`ConfigError::Option`] for an empty name.
    pub fn identity(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        self.tls("cert")?.present(cert.into(), key.into())?;
        Ok(self)
    }

    /// The servers and the database, without the user and the password: the name of the store in errors.
    pub fn address(&self) -> String {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        let list = |hosts: &[Address]| hosts.iter().map(Address::to_string).collect::<Vec<_>>().join(",");
        match &self.servers {
            Servers::One(socket @ Address::Socket(_)) => format!("redis+unix://{socket}?db={}", self.database),
            Servers::One(host) => format!("{scheme}://{host}/{}", self.database),
            Servers::Sentinels { hosts, service, .. } => {
                format!("{scheme}-sentinel://{}/{service}/{}", list(hosts), self.database)
            }
            Servers::Cluster(hosts) => format!("{scheme}-cluster://{}", list(hosts)),
        }
    }

    /// Whether the URL names one server, without sentinels.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.servers, Servers::One(_))
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.servers, Servers::Cluster(_))
    }

    /// The nodes of a cluster that the URL names.
    pub(crate) fn seeds(&self) -> &[Address] {
        if let Servers::Cluster(seeds) = &self.servers { seeds } else { &[] }
    }

    fn with_option(mut self, kind: Kind, option: &str, value: String, pairs: &mut Pairs) -> Result<Self, ConfigError> {
        let may_use_tls = kind != Kind::Socket;
        match (option, kind) {
            ("namespace", _) => {
                return Namespace::new(&*value)
                    .map(|namespace| self.namespace(namespace))
                    .map_err(ConfigError::Namespace);
            }
            ("timeout", _) => return self.timeout(InvalidOption::timeout_of("timeout", &value)?),
            ("connect_timeout", _) => {
                return self.connect_timeout(InvalidOption::timeout_of("connect_timeout", &value)?);
            }
            ("restart_grace", _) => return self.restart_grace(InvalidOption::grace_of("restart_grace", &value)?),
            ("ca", _) if may_use_tls => return self.ca(value),
            ("wait_replicas", _) => {
                let unreadable = |_| InvalidOption::unreadable("wait_replicas", REPLICAS_REMEDY);
                pairs.replicas = Some(value.parse().map_err(unreadable)?);
            }
            ("wait_timeout", _) => pairs.replicas_within = Some(InvalidOption::timeout_of("wait_timeout", &value)?),
            ("cert", _) if may_use_tls => pairs.cert = Some(value),
            ("key", _) if may_use_tls => pairs.key = Some(value),
            ("sentinel_user", Kind::Sentinels) => pairs.sentinel_user = Some(checked_text("sentinel_user", value)?),
            ("sentinel_password", Kind::Sentinels) => {
                pairs.sentinel_password = Some(checked_text("sentinel_password", value)?);
            }
            ("address_map", Kind::Sentinels | Kind::Cluster) => {
                let unreadable = || InvalidOption::unreadable("address_map", MAP_REMEDY);
                let pairs = value.split(',').map(|pair| pair.split_once('=').ok_or_else(unreadable));
                let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
                return self.address_map(pairs);
            }
            ("db", Kind::Socket) => self.database = url::database(&value)?,
            ("user", Kind::Socket) => pairs.user = Some(checked_text("user", value)?),
            ("pass", Kind::Socket) => pairs.password = Some(checked_text("pass", value)?),
            _ => {
                let option = InvalidOption::unknown_name(option);
                return Err(ConfigError::UnknownOption { option, known: kind.options() });
            }
        }
        Ok(self)
    }

    fn tls(&mut self, option: &'static str) -> Result<&mut TlsFiles, ConfigError> {
        self.tls.as_mut().ok_or(ConfigError::NeedsTls { option })
    }
}

fn checked_text(option: &'static str, text: String) -> Result<String, ConfigError> {
    if text.is_empty() {
        return Err(InvalidOption::unusable(option, "", TEXT_REMEDY).into());
    }
    Ok(text)
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
            .field("tls", &self.tls)
            .field("namespace", &self.namespace)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("restart_grace", &self.restart_grace)
            .field("replicas", &self.replicas)
            .field("address_map", &self.address_map)
            .finish_non_exhaustive()
    }
}
