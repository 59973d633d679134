//! The kinds of failed calls.

/// The effect of a failed call, and what a retry may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was not sent, or the server answered that nothing was done; a retry may succeed.
    Unsent,
    /// The server answered that it does not write. A new connection may lead to another server, which does.
    ReadOnly,
    /// Another program than Postgres answered a new connection, and the request was not sent. The first connection fails
    /// with that. Later the address may only lead elsewhere for a moment, as in a restart of a proxy.
    NoPostgres,
    /// It may have been carried out; no answer says so.
    Unanswered,
    /// It timed out. The server may still be working on it.
    Late,
    /// The tables or the procedures are missing.
    Incomplete,
    /// The server rejected it.
    Refused,
}
