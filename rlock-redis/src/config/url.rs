//! Reads the parts of a URL. URL parsers reject several hosts, so the hosts are read one by one.

use percent_encoding::percent_decode_str;
use url::Url;

use super::error::ConfigError;
use super::servers::{Credentials, Servers};
use crate::address::Address;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// The kind of servers that a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Server,
    Sentinels,
    Cluster,
    Socket,
}

impl Kind {
    /// The options of this kind of URL.
    pub(super) fn options(self) -> &'static str {
        macro_rules! options {
            ($more:literal) => {
                concat!(
                    "namespace, timeout, connect_timeout, restart_grace, wait_replicas, wait_timeout",
                    $more,
                    ", and with TLS ca, cert and key"
                )
            };
        }
        match self {
            Self::Server => options!(""),
            Self::Cluster => options!(", address_map"),
            Self::Sentinels => options!(", address_map, sentinel_user, sentinel_password"),
            Self::Socket => {
                "namespace, timeout, connect_timeout, restart_grace, wait_replicas, wait_timeout, db, user and pass"
            }
        }
    }
}

/// The parts of a URL. The options are decoded, in their order.
pub(super) struct Parts {
    pub(super) kind: Kind,
    pub(super) tls: bool,
    pub(super) servers: Servers,
    pub(super) credentials: Option<Credentials>,
    pub(super) database: u8,
    pub(super) options: Vec<(String, String)>,
}

impl Parts {
    pub(super) fn of(text: &str) -> Result<Self, ConfigError> {
        if text.contains('#') {
            return Err(ConfigError::Fragment);
        }
        let (first, others) = split_hosts(text);
        let url = Url::parse(&first).map_err(ConfigError::Malformed)?;
        let (kind, tls) = kind(url.scheme())?;
        if tls && !cfg!(feature = "tls") {
            return Err(ConfigError::TlsOff);
        }
        let path = url.path().strip_prefix('/').unwrap_or(url.path());
        let (servers, database) = match kind {
            Kind::Server if !others.is_empty() => return Err(ConfigError::SeveralHosts),
            Kind::Server => (Servers::One(address(&url, PORT)?), database(path)?),
            Kind::Sentinels => {
                let hosts = addresses(&url, &others, SENTINEL_PORT)?;
                let (service, number) = path.split_once('/').unwrap_or((path, ""));
                if path.contains('@') {
                    return Err(ConfigError::Slash); // it is the rest of a password
                }
                let service = decode("service", service)?;
                if service.is_empty() {
                    return Err(ConfigError::NoService);
                }
                (Servers::Sentinels { hosts, service, credentials: None }, database(number)?)
            }
            Kind::Cluster => {
                if !matches!(path, "" | "0") {
                    return Err(ConfigError::DatabaseOfCluster);
                }
                (Servers::Cluster(addresses(&url, &others, PORT)?), 0)
            }
            Kind::Socket => (Servers::One(Address::Socket(decode("path", url.path())?.into())), 0),
        };
        let mut options = Vec::new();
        for pair in url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (option, value) = pair.split_once('=').unwrap_or((pair, ""));
            options.push((decode("options", option)?, decode("options", value)?));
        }
        Ok(Self { kind, tls, servers, credentials: credentials(&url)?, database, options })
    }
}

fn kind(scheme: &str) -> Result<(Kind, bool), ConfigError> {
    let kind = match scheme {
        "redis" | "valkey" => (Kind::Server, false),
        "rediss" | "valkeys" => (Kind::Server, true),
        "redis-sentinel" | "valkey-sentinel" => (Kind::Sentinels, false),
        "rediss-sentinel" | "valkeys-sentinel" => (Kind::Sentinels, true),
        "redis-cluster" | "valkey-cluster" => (Kind::Cluster, false),
        "rediss-cluster" | "valkeys-cluster" => (Kind::Cluster, true),
        "redis+unix" | "valkey+unix" if cfg!(unix) => (Kind::Socket, false),
        "redis+unix" | "valkey+unix" => return Err(ConfigError::NoSockets),
        other => return Err(ConfigError::Scheme { scheme: other.to_owned() }),
    };
    Ok(kind)
}

/// Splits a URL into the URL with only its first host, and the other hosts.
fn split_hosts(text: &str) -> (String, Vec<&str>) {
    let Some((scheme, rest)) = text.split_once("://") else { return (text.to_owned(), Vec::new()) };
    let (authority, behind) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = match authority.rfind('@') {
        Some(at) => authority.split_at(at + 1),
        None => ("", authority),
    };
    let mut hosts = hosts.split(',');
    let first = hosts.next().unwrap_or_default();
    (format!("{scheme}://{user}{first}{behind}"), hosts.collect())
}

fn addresses(url: &Url, others: &[&str], port: u16) -> Result<Vec<Address>, ConfigError> {
    let mut addresses = vec![address(url, port)?];
    for other in others {
        let url = Url::parse(&format!("redis://{other}")).map_err(ConfigError::Malformed)?;
        let address = address(&url, port)?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn address(url: &Url, port: u16) -> Result<Address, ConfigError> {
    let host = decode("host", url.host_str().unwrap_or_default())?;
    if host.is_empty() {
        return Err(ConfigError::NoHost);
    }
    Ok(Address::new(host, url.port().unwrap_or(port)))
}

fn credentials(url: &Url) -> Result<Option<Credentials>, ConfigError> {
    let user = Some(decode("user", url.username())?).filter(|user| !user.is_empty());
    match url.password() {
        Some(password) => Ok(Some(Credentials { user, password: decode("password", password)? })),
        None if user.is_some() => Err(ConfigError::NoPassword),
        None => Ok(None),
    }
}

pub(super) fn database(number: &str) -> Result<u8, ConfigError> {
    match number {
        "" => Ok(0),
        number => number.parse().map_err(|_| ConfigError::Database),
    }
}

fn decode(part: &'static str, text: &str) -> Result<String, ConfigError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| ConfigError::NotText { part })?;
    Ok(decoded.into_owned())
}
