//! Where the servers are and how to talk to them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rlock_core::{InvalidName, InvalidOption, Namespace};
use url::Host;

/// Where the etcd servers are, and how to talk to them.
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
    /// At least one, and none twice.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) tls: Option<Tls>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) namespace: Namespace,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) restart_grace: Duration,
}

/// One server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// An IPv6 address has its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// How servers are known by their certificates, and this client by its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// A file with the certificates to trust, in PEM; the system's without it.
    pub(crate) ca: Option<PathBuf>,
    /// Files with the certificate and the key of this client, in PEM.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

const DEFAULT_PORT: u16 = 2379;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_RESTART_GRACE: Duration = Duration::from_secs(2);

impl EtcdConfig {
    /// Reads `etcd://user:password@host1:port,host2:port?option=value&…`, or `etcds://…` for TLS.
    ///
    /// The hosts are members of one cluster. One is enough; with more, those that do not answer are done without.
    /// Everything but the scheme and one host may be left out: the port is then 2379, and there is no user. What is
    /// special in a URL is percent-encoded, an `@` in an option too. Of an option that is there twice, the last counts.
    ///
    /// | option | what | without it |
    /// | --- | --- | --- |
    /// | `namespace` | the part of the cluster that is used, as in [`namespace`](Self::namespace) | `rlock` |
    /// | `timeout` | how long a request may take, as `500ms`, `5s`, `1m` | `5s` |
    /// | `connect_timeout` | how long connecting may take | `5s` |
    /// | `restart_grace` | how long nothing is claimed in a cluster that never had locks, as in [`restart_grace`](Self::restart_grace) | `2s` |
    /// | `ca` | with TLS: a file of certificates to trust, as in [`ca`](Self::ca) | those that the system trusts |
    /// | `cert`, `key` | with TLS: files of the client's certificate, as in [`identity`](Self::identity) | none |
    ///
    /// Files are read when a client connects.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if it cannot be read or names an option that there is not. No error shows the URL, which
    /// may have a password in it.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let parts = Parts::of(url)?;
        let mut config = Self {
            endpoints: endpoints(parts.hosts)?,
            tls: parts.tls.then(Tls::default),
            credentials: parts.userinfo.map_or(Ok(None), credentials)?,
            namespace: Namespace::default(),
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_TIMEOUT,
            restart_grace: DEFAULT_RESTART_GRACE,
        };
        let (mut cert, mut key) = (None, None);
        for pair in parts.query.split('&').filter(|pair| !pair.is_empty()) {
            let (option, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (option, value) = (decode("options", option)?, decode("options", value)?);
            match option.as_str() {
                "cert" => cert = Some(value),
                "key" => key = Some(value),
                _ => config = config.with_option(&option, &value)?,
            }
        }
        match (cert, key) {
            (Some(cert), Some(key)) => config.identity(cert, key),
            (None, None) => Ok(config),
            (cert, _) => Err(ConfigError::HalfIdentity { missing: if cert.is_some() { "key" } else { "cert" } }),
        }
    }

    /// Keeps to a part of the cluster: equal names in two namespaces are two resources.
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

    /// How long nothing is claimed after a namespace is used in a cluster for the first time, in seconds, rounded up.
    ///
    /// A cluster that comes back without its data looks like one that never had any, and would grant at once what others
    /// believe to hold. The grace leaves them the time to connect again and to be told of the loss; one as long as the
    /// longest TTL in use covers also those who cannot connect. Claims are tried again meanwhile, for as long as the client's
    /// [`retry_for`](rlock_core::ClientBuilder::retry_for). Zero does without, for a cluster that nobody used before, or that
    /// cannot lose all its data.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for more than an hour.
    pub fn restart_grace(mut self, grace: Duration) -> Result<Self, ConfigError> {
        self.restart_grace = InvalidOption::grace("restart_grace", grace)?;
        Ok(self)
    }

    /// Trusts the certificates in `file`, in PEM, in place of those that the system trusts.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NeedsTls`] if the URL was `etcd://`, [`ConfigError::Option`] for an empty name.
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        self.tls("ca")?.ca = Some(checked_file("ca", file.into())?);
        Ok(self)
    }

    /// Shows the servers a certificate: the one in the file `cert`, whose private key is in the file `key`, both in PEM.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NeedsTls`] if the URL was `etcd://`, [`ConfigError::Option`] for an empty name.
    pub fn identity(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let files = (checked_file("cert", cert.into())?, checked_file("key", key.into())?);
        self.tls("cert")?.identity = Some(files);
        Ok(self)
    }

    /// The servers, without the user and the password: what errors call the store.
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
            "ca" => self.ca(value),
            _ => Err(ConfigError::UnknownOption { option: InvalidOption::unknown_name(option) }),
        }
    }

    fn tls(&mut self, option: &'static str) -> Result<&mut Tls, ConfigError> {
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
            .finish_non_exhaustive()
    }
}

/// Why a URL or an option cannot be used, and what would work. It never shows the user or the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is not a URL.
    #[error("the etcd URL cannot be read: write etcd://user:password@host:port,host:port?option=value")]
    Malformed,
    /// It is the URL of something else.
    #[error("the scheme {scheme:?} is not one of etcd: use etcd:// or, for TLS, etcds://")]
    Scheme {
        /// The scheme that was given.
        scheme: String,
    },
    /// TLS is asked for and not built in.
    #[error("etcds:// needs the feature \"tls\" of rlock-etcd, which is off: enable it, or use etcd://")]
    TlsOff,
    /// It does not say where the servers are.
    #[error("the etcd URL names no host: write etcd://host:port, for instance etcd://localhost")]
    NoHost,
    /// Nothing stands between two commas, in front of the first or behind the last.
    #[error("host {place} of the etcd URL is empty: write host:port,host:port, with a comma between two hosts alone")]
    EmptyHost {
        /// Which one, beginning with 1.
        place: usize,
    },
    /// A host is neither a name nor an address.
    #[error(
        "host {place} of the etcd URL is neither a name nor an address ({reason}): write host:port, and an IPv6 \
         address in brackets, as [::1]:2379"
    )]
    Host {
        /// Which one, beginning with 1.
        place: usize,
        /// What is wrong with it.
        reason: url::ParseError,
    },
    /// What stands behind a host is not a port. It is not repeated: where a password has a slash in it that is not
    /// written as %2F, this is a part of the password.
    #[error(
        "the port of host {place} of the etcd URL is not one: use 1 to 65535, or leave it out for 2379; an IPv6 \
         address stands in brackets"
    )]
    Port {
        /// Which one, beginning with 1.
        place: usize,
    },
    /// A server is there twice, which is often a slip of the pen for another.
    #[error("host {place} of the etcd URL is there before, with the same port: name each server once")]
    Repeated {
        /// Which one, beginning with 1.
        place: usize,
    },
    /// Something stands behind the hosts. It is not repeated, for the same reason as a port.
    #[error(
        "the etcd URL has a path behind its hosts, where nothing belongs: keep locks apart with ?namespace=…; a slash \
         in a password is written %2F"
    )]
    Path,
    /// There is an `@` where no user and no password can be.
    #[error("the etcd URL has an @ behind its hosts: in a password write / as %2F and ? as %3F, in an option @ as %40")]
    At,
    /// There is a `#` in it, which ends a URL.
    #[error("the etcd URL has a # in it: if that belongs to the user or the password, write it as %23")]
    Fragment,
    /// There is a password without a user.
    #[error("the etcd URL has a password but no user: write user:password@, or neither")]
    NoUser,
    /// There is a user without a password.
    #[error("the etcd URL has a user but no password: write user:password@, or neither")]
    NoPassword,
    /// Percent-decoding did not give text.
    #[error("the {part} of the etcd URL is not UTF-8 once percent-decoded: check the % in it")]
    NotText {
        /// The part of the URL.
        part: &'static str,
    },
    /// There is no such option.
    #[error(
        "the etcd URL has an unknown option {option:?}: there are namespace, timeout, connect_timeout, \
         restart_grace, ca, cert and key"
    )]
    UnknownOption {
        /// The option, if it does not look like a part of a password.
        option: String,
    },
    /// The namespace cannot be used.
    #[error("the option namespace of the etcd URL: {0}")]
    Namespace(InvalidName),
    /// An option is about TLS, and the URL is not.
    #[error("the option {option} is about TLS: write etcds:// in place of etcd://, or leave it out")]
    NeedsTls {
        /// The option.
        option: &'static str,
    },
    /// Of the two files of a certificate, one is missing.
    #[error("the options cert and key belong together: add {missing}, the name of a PEM file, or drop the other")]
    HalfIdentity {
        /// The option that is missing.
        missing: &'static str,
    },
    /// An option has a value that cannot be used.
    #[error(transparent)]
    Option(#[from] InvalidOption),
}

const FILE_REMEDY: &str = "write the name of a PEM file";

/// A URL with several hosts, which no URL parser reads, taken apart. Nothing is decoded yet.
struct Parts<'a> {
    tls: bool,
    userinfo: Option<&'a str>,
    hosts: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Self, ConfigError> {
        if url.contains('#') {
            return Err(ConfigError::Fragment);
        }
        let around: fn(char) -> bool = |c| c <= ' '; // what URL parsers strip
        let (scheme, rest) = url.trim_matches(around).split_once("://").ok_or(ConfigError::Malformed)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "etcd" => false,
            "etcds" if cfg!(feature = "tls") => true,
            "etcds" => return Err(ConfigError::TlsOff),
            other if other.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => {
                return Err(ConfigError::Scheme { scheme: other.to_owned() });
            }
            _ => return Err(ConfigError::Malformed),
        };
        let (authority, behind) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // Before anything is said about what stands there: it may be the rest of a password.
        if behind.contains('@') {
            return Err(ConfigError::At);
        }
        let (path, query) = behind.split_once('?').unwrap_or((behind, ""));
        if !matches!(path, "" | "/") {
            return Err(ConfigError::Path);
        }
        let (userinfo, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
        Ok(Self { tls, userinfo, hosts, query })
    }
}

fn endpoints(hosts: &str) -> Result<Vec<Endpoint>, ConfigError> {
    if hosts.is_empty() {
        return Err(ConfigError::NoHost);
    }
    let mut endpoints = Vec::new();
    for (place, host) in (1..).zip(hosts.split(',')) {
        let endpoint = endpoint(place, host)?;
        if endpoints.contains(&endpoint) {
            return Err(ConfigError::Repeated { place });
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

fn endpoint(place: usize, text: &str) -> Result<Endpoint, ConfigError> {
    let behind_address = text.starts_with('[').then(|| text.find(']')).flatten().unwrap_or_default();
    let host_ends = text[behind_address..].find(':').map_or(text.len(), |colon| behind_address + colon);
    let (host, port) = text.split_at(host_ends);
    if host.is_empty() {
        return Err(ConfigError::EmptyHost { place });
    }
    let port = match port.strip_prefix(':') {
        None => DEFAULT_PORT,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port > 0).ok_or(ConfigError::Port { place })?
        }
        Some(_) => return Err(ConfigError::Port { place }),
    };
    // Lower case, percent-decoded and in ASCII; an address as it is always written.
    let host = Host::parse(host).map_err(|reason| ConfigError::Host { place, reason })?.to_string();
    Ok(Endpoint { host, port })
}

fn credentials(userinfo: &str) -> Result<Option<Credentials>, ConfigError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    match (decode("user", user)?, decode("password", password)?) {
        (user, password) if user.is_empty() && password.is_empty() => Ok(None),
        (user, _) if user.is_empty() => Err(ConfigError::NoUser),
        (_, password) if password.is_empty() => Err(ConfigError::NoPassword),
        (user, password) => Ok(Some(Credentials { user, password })),
    }
}

fn checked_file(option: &'static str, file: PathBuf) -> Result<PathBuf, ConfigError> {
    if file.as_os_str().is_empty() {
        return Err(InvalidOption::unusable(option, "", FILE_REMEDY).into());
    }
    Ok(file)
}

fn decode(part: &'static str, text: &str) -> Result<String, ConfigError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| ConfigError::NotText { part })?;
    Ok(decoded.into_owned())
}
