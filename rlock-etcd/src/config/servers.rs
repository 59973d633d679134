//! The servers that a URL names, and the credentials for them.

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
