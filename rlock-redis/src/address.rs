//! Addresses of servers.

use std::fmt;
use std::path::PathBuf;

/// The address of one server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Address {
    Host { host: String, port: u16 },
    Socket(PathBuf),
}

impl Address {
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self::Host { host: host.into(), port }
    }

    /// Reads `host:port`, as servers write it. The host may be an IPv6 address without brackets, or empty for the
    /// server's own host.
    pub(crate) fn parse(text: &str, own: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::announced(host, port.parse().ok()?, own))
    }

    /// An address that the server at `own` announced. If the host is empty, it is that server's own.
    pub(crate) fn announced(host: &str, port: u16, own: &Self) -> Self {
        match (host, own) {
            ("", Self::Host { host, .. }) => Self::new(host, port),
            (host, _) if host.contains(':') && !host.starts_with('[') => Self::new(format!("[{host}]"), port),
            (host, _) => Self::new(host, port),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_addresses_are_read() {
        let own = Address::new("redis.example.com", 7000);
        for (text, host, port) in [
            ("10.0.0.7:6379", "10.0.0.7", 6379),
            ("::1:7001", "[::1]", 7001),
            ("[::1]:7001", "[::1]", 7001),
            (":7002", "redis.example.com", 7002),
        ] {
            assert_eq!(Address::parse(text, &own), Some(Address::new(host, port)), "{text}");
        }
        for text in ["", "10.0.0.7", "10.0.0.7:", "10.0.0.7:x"] {
            assert_eq!(Address::parse(text, &own), None, "{text}");
        }
    }
}
