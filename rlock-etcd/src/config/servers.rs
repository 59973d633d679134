//! The servers that a URL names, and the credentials and the files of connections to them.

use std::path::PathBuf;

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

/// The certificates that the client trusts, and its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// A file of the certificates to trust, in PEM; without it, the client trusts the system's.
    pub(crate) ca: Option<PathBuf>,
    /// Files with the certificate and the key of this client, in PEM.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}
