//! Parses URLs with several hosts.

use percent_encoding::percent_decode_str;
use rlock_core::InvalidOption;
use url::Host;

use super::error::ConfigError;
use super::servers::{Credentials, Endpoint};

const DEFAULT_PORT: u16 = 2379;

/// The parts of a URL with several hosts, which common URL parsers reject. Nothing is decoded yet.
pub(super) struct Parts<'a> {
    pub(super) tls: bool,
    pub(super) userinfo: Option<&'a str>,
    pub(super) hosts: &'a str,
    pub(super) query: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn of(url: &'a str) -> Result<Self, ConfigError> {
        if url.contains('#') {
            return Err(ConfigError::Fragment);
        }
        let around: fn(char) -> bool = |c| c <= ' '; // URL parsers strip these
        let (scheme, rest) = InvalidOption::split_scheme(url.trim_matches(around)).ok_or(ConfigError::Malformed)?;
        let rest = rest.strip_prefix("//").ok_or(ConfigError::Malformed)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "etcd" => false,
            "etcds" if cfg!(feature = "tls") => true,
            "etcds" => return Err(ConfigError::TlsOff),
            other => return Err(ConfigError::Scheme { scheme: other.to_owned() }),
        };
        let (authority, behind) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // This check comes first: the errors below must not show the rest of a password.
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

pub(super) fn endpoints(hosts: &str) -> Result<Vec<Endpoint>, ConfigError> {
    if hosts.is_empty() {
        return Err(ConfigError::NoHost);
    }
    let mut endpoints = Vec::new();
    for (number, host) in (1..).zip(hosts.split(',')) {
        let endpoint = endpoint(number, host)?;
        if endpoints.contains(&endpoint) {
            return Err(ConfigError::RepeatedHost { number });
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

fn endpoint(number: usize, text: &str) -> Result<Endpoint, ConfigError> {
    let behind_address = text.starts_with('[').then(|| text.find(']')).flatten().unwrap_or_default();
    let host_ends = text[behind_address..].find(':').map_or(text.len(), |colon| behind_address + colon);
    let (host, port) = text.split_at(host_ends);
    if host.is_empty() {
        return Err(ConfigError::EmptyHost { number });
    }
    let port = match port.strip_prefix(':') {
        None => DEFAULT_PORT,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port > 0).ok_or(ConfigError::Port { number })?
        }
        Some(_) => return Err(ConfigError::Port { number }),
    };
    // The parser converts names to lower-case ASCII, percent-decoded, and writes an address in its canonical form.
    let host = Host::parse(host).map_err(|reason| ConfigError::Host { number, reason })?.to_string();
    Ok(Endpoint { host, port })
}

pub(super) fn credentials(userinfo: &str) -> Result<Option<Credentials>, ConfigError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    match (decode("user", user)?, decode("password", password)?) {
        (user, password) if user.is_empty() && password.is_empty() => Ok(None),
        (user, _) if user.is_empty() => Err(ConfigError::NoUser),
        (_, password) if password.is_empty() => Err(ConfigError::NoPassword),
        (user, password) => Ok(Some(Credentials { user, password })),
    }
}

pub(super) fn decode(part: &'static str, text: &str) -> Result<String, ConfigError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| ConfigError::NotText { part })?;
    Ok(decoded.into_owned())
}
