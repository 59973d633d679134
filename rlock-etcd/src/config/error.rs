//! What can be wrong with a URL or an option.

use rlock_core::{InvalidName, InvalidOption};

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
         restart_grace, note_holds, ca, cert and key"
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
