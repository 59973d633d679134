//! The servers that a URL names, and the credentials and the files of connections to them.

use std::path::PathBuf;

use crate::address::Address;

/// The servers that a URL names.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Servers {
    One(Address),
    Sentinels { hosts: Vec<Address>, service: String, credentials: Option<Credentials> },
    Cluster(Vec<Address>),
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) password: String,
}

/// The files of TLS, in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tls {
    /// The certificates to trust instead of the system's.
    pub(crate) ca: Option<PathBuf>,
    /// The certificate and the private key of this client.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}
