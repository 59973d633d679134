//! Errors of URLs and options.

use rlock_core::{InvalidName, InvalidOption};

/// The fault in a URL or an option, and its remedy. It never shows the user or the password.
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
    /// The URL asks for TLS, which is not built in.
    #[error("etcds:// needs the feature \"tls\" of rlock-etcd, which is off: enable it, or use etcd://")]
    TlsOff,
    /// The URL names no host.
    #[error("the etcd URL names no host: write etcd://host:port, for instance etcd://localhost")]
    NoHost,
    /// A host is missing: between two commas, before the first or after the last.
    #[error("host {number} of the etcd URL is empty: write host:port,host:port, with a comma only between two hosts")]
    EmptyHost {
        /// Its number, from 1.
        number: usize,
    },
    /// A host is neither a name nor an address.
    #[error(
        "host {number} of the etcd URL is neither a name nor an address ({reason}): write host:port, and an IPv6 \
         address in brackets, as [::1]:2379"
    )]
    Host {
        /// Its number, from 1.
        number: usize,
        /// The reason that it is neither.
        reason: url::ParseError,
    },
    /// The text after a host is not a port. The error does not repeat it: if a password contains a slash that is not
    /// written as %2F, this text is a part of the password.
    #[error(
        "the port of host {number} of the etcd URL is not one: use 1 to 65535, or leave it out for 2379; an IPv6 \
         address stands in brackets"
    )]
    Port {
        /// Its number, from 1.
        number: usize,
    },
    /// A server is named twice, which is often a typing error.
    #[error("host {number} of the etcd URL repeats an earlier host and port: name each server once")]
    RepeatedHost {
        /// Its number, from 1.
        number: usize,
    },
    /// The URL has a path after the hosts. The error does not repeat it, for the same reason as for a port.
    #[error(
        "the etcd URL has a path after its hosts, which etcd does not use: separate locks by ?namespace=…, and write a \
         slash in a password as %2F"
    )]
    Path,
    /// There is an `@` after the hosts, where no user and no password can be.
    #[error("the etcd URL has an @ after its hosts: in a password write / as %2F and ? as %3F, in an option @ as %40")]
    At,
    /// The URL contains a `#`, which ends a URL.
    #[error("the etcd URL has a # in it: if that belongs to the user or the password, write it as %23")]
    Fragment,
    /// There is a password without a user.
    #[error("the etcd URL has a password but no user: write user:password@, or neither")]
    NoUser,
    /// There is a user without a password.
    #[error("the etcd URL has a user but no password: write user:password@, or neither")]
    NoPassword,
    /// A part is not UTF-8 after percent-decoding.
    #[error("the {part} of the etcd URL is not UTF-8 once percent-decoded: check the % in it")]
    NotText {
        /// The part of the URL.
        part: &'static str,
    },
    /// The option is unknown.
    #[error(
        "the etcd URL has an unknown option {option:?}: there are namespace, timeout, connect_timeout, \
         restart_grace, note_holds, ca, cert and key"
    )]
    UnknownOption {
        /// The option, unless it looks like a part of a password.
        option: String,
    },
    /// An option is given twice.
    #[error("the etcd URL has the option {option} twice: keep one of them")]
    Repeated {
        /// The option.
        option: String,
    },
    /// The namespace cannot be used.
    #[error("the option namespace of the etcd URL: {0}")]
    Namespace(InvalidName),
    /// An option needs TLS, and the URL does not use it.
    #[error("the option {option} needs TLS: write etcds:// instead of etcd://, or leave the option out")]
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
