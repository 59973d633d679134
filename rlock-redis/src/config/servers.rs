//! The servers that a URL names, and the credentials for them.

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
