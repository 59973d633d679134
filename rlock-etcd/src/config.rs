//! The configuration of a connection: servers, options and credentials.

mod error;
mod servers;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rlock_core::{InvalidOption, Namespace, TlsFiles};

pub use self::error::ConfigError;
pub(crate) use self::servers::{Credentials, Endpoint};
use self::url::{Parts, credentials, decode, endpoints};

/// The addresses of the etcd servers, and the options of a connection to them.
///
/// ```
/// use rlock_etcd::EtcdConfig;
///
/// let config = EtcdConfig::from_url("etcd://jobs:secret@10.0.0.7:2379,10.0.0.8?namespace=billing&timeout=2s")?;
/// assert_eq!(config.address(), "etcd://10.0.0.7:2379,10.0.0.8:2379");
/// # Ok::<(), rlock_etcd::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// At least one, without duplicates.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) namespace: Namespace,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) restart_grace: Duration,
    pub(crate) note_holds: bool,
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_RESTART_GRACE: Duration = Duration::from_secs(2);

impl EtcdConfig {
    /// Reads `etcd://user:password@host1:port,host2:port?option=value&…`, or `etcds://…` for TLS.
    ///
    /// The hosts are members of one cluster. One is enough; with several, the client uses the first that answers. Only
    /// the scheme and one host are required: the default port is 2379, and there is no default user. Percent-encode
    /// characters that are special in a URL, an `@` in an option too.
    ///
    /// | option | effect | default |
    /// | --- | --- | --- |
    /// | `namespace` | the part of the cluster that is used, as in [`namespace`](Self::namespace) | `rlock` |
    /// | `timeout` | the longest time for a request, as `500ms`, `5s`, `1m` | `5s` |
    /// | `connect_timeout` | the longest time for connecting | `5s` |
    /// | `restart_grace` | the time after the first use of the namespace without grants, as in [`restart_grace`](Self::restart_grace) | `2s` |
    /// | `note_holds` | whether a lock that was waited for records the time of its grant, as in [`note_holds`](Self::note_holds): `on` or `off` | `on` |
    /// | `ca` | with TLS: a file of certificates to trust, as in [`ca`](Self::ca) | the system's |
    /// | `cert`, `key` | with TLS: files of the client's certificate, as in [`identity`](Self::identity) | none |
    ///
    /// The client reads the files when it connects.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the URL is malformed, repeats an option or has an unknown option. No error shows the URL,
    /// because it may contain a password.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let parts = Parts::of(url)?;
        let mut config = Self {
            endpoints: endpoints(parts.hosts)?,
            tls: parts.tls.then(TlsFiles::default),
            credentials: parts.userinfo.map_or(Ok(None), credentials)?,
            namespace: Namespace::default(),
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_TIMEOUT,
            restart_grace: DEFAULT_RESTART_GRACE,
            note_holds: true,
        };
        let (mut cert, mut key) = (None, None);
        let mut seen = Vec::new();
        for pair in parts.query.split('&').filter(|pair| !pair.is_empty()) {
            let (option, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (option, value) = (decode("options", option)?, decode("options", value)?);
            match option.as_str() {
                "cert" => cert = Some(value),
                "key" => key = Some(value),
                _ => config = config.with_option(&option, &value)?,
            }
            if seen.contains(&option) {
                return Err(ConfigError::Repeated { option });
            }
            seen.push(option);
        }
        match (cert, key) {
            (Some(cert), Some(key)) => config.identity(cert, key),
            (None, None) => Ok(config),
            (cert, _) => Err(ConfigError::HalfIdentity { missing: if cert.is_some() { "key" } else { "cert" } }),
        }
    }

    /// Uses a part of the cluster: equal names in two namespaces are two resources.
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

    /// Sets the time after the first use of a namespace in a cluster during which no claim is granted, up to 1 h and
    /// rounded up to seconds. The default is 2 s.
    ///
    /// A cluster that comes back without its data looks like a new one. It would at once grant locks that other clients
    /// believe they hold. During the grace these clients reconnect and learn of the loss. A grace as long as the
    /// longest TTL in use also covers clients that cannot reconnect. Claims are retried meanwhile, for as long as the
    /// client's [`retry_for`](rlock_core::ClientBuilder::retry_for). Zero means no grace: for a new cluster, or for one
    /// that cannot lose all its data.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for more than an hour.
    pub fn restart_grace(mut self, grace: Duration) -> Result<Self, ConfigError> {
        self.restart_grace = InvalidOption::grace("restart_grace", grace)?;
        Ok(self)
    }

    /// Sets whether a lock that was waited for records the time of its grant once it has been held for 30 to 60 ms, as it
    /// does by default. The time is only shown, as by [`inspect`](rlock_core::Backend::inspect), and costs a raft entry.
    /// Without it such locks show as held for no time.
    #[must_use]
    pub fn note_holds(mut self, note: bool) -> Self {
        self.note_holds = note;
        self
    }

    /// Trusts the certificates in `file`, in PEM, instead of the system's.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NeedsTls`] if the URL was `etcd://`, [`ConfigError::Option`] for an empty name.
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        self.tls("ca")?.trust(file.into())?;
        Ok(self)
    }

    /// Presents a client certificate to the servers: the one in the file `cert`, whose private key is in the file
    /// `key`, both in PEM.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NeedsTls`] if the URL was `etcd://`, [`ConfigError::Option`] for an empty name.
    pub fn identity(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        self.tls("cert")?.present(cert.into(), key.into())?;
        Ok(self)
    }

    /// The servers, without the user and the password: the name of the store in errors.
    pub fn address(&self) -> String {
        let scheme = if self.tls.is_some() { "etcds" } else { "etcd" };
        let servers: Vec<_> = self.endpoints.iter().map(|server| format!("{}:{}", server.host, server.port)).collect();
        format!("{scheme}://{}", servers.join(","))
    }

    fn with_option(self, option: &str, value: &str) -> Result<Self, ConfigError> {
        match option {
            "namespace" => {
                Namespace::new(value).map(|namespace| self.namespace(namespace)).map_err(ConfigError::Namespace)
            }
            "timeout" => self.timeout(InvalidOption::timeout_of("timeout", value)?),
            "connect_timeout" => self.connect_timeout(InvalidOption::timeout_of("connect_timeout", value)?),
            "restart_grace" => self.restart_grace(InvalidOption::grace_of("restart_grace", value)?),
            "note_holds" => match value {
                "on" => Ok(self.note_holds(true)),
                "off" => Ok(self.note_holds(false)),
                _ => Err(InvalidOption::unusable("note_holds", value, "write on or off").into()),
            },
            "ca" => self.ca(value),
            _ => Err(ConfigError::UnknownOption { option: InvalidOption::unknown_name(option) }),
        }
    }

    fn tls(&mut self, option: &'static str) -> Result<&mut TlsFiles, ConfigError> {
        self.tls.as_mut().ok_or(ConfigError::NeedsTls { option })
    }
}

impl FromStr for EtcdConfig {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<Self, ConfigError> {
        Self::from_url(url)
    }
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("address", &self.address())
            .field("tls", &self.tls)
            .field("namespace", &self.namespace)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("restart_grace", &self.restart_grace)
            .field("note_holds", &self.note_holds)
            .finish_non_exhaustive()
    }
}
