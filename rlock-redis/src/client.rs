//! Sets up the client library, fred, for one connection, and maps its errors.

use std::time::Duration;

use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, Server, ServerConfig, TcpConfig, UnresponsiveConfig,
};
use fred::types::{Builder, RespVersion};
use rlock_core::Cause;

use crate::address::Address;
use crate::advice::CLUSTER_IS_DOWN;
use crate::config::{Credentials, RedisConfig};
use crate::error::CallError;

/// The maximum number of unsent commands; further ones fail.
const MAX_UNSENT: usize = 16_384;
/// The maximum number of unread messages; further ones replace older ones, and the reader notices the loss.
const MAX_UNREAD: usize = 4_096;

/// A server to connect to, and the login for it.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint<'a> {
    pub(crate) config: &'a RedisConfig,
    pub(crate) address: &'a Address,
    pub(crate) credentials: Option<&'a Credentials>,
    pub(crate) database: Option<u8>,
}

impl<'a> Endpoint<'a> {
    /// A server in its first database, with the user of the URL.
    pub(crate) fn of_node(config: &'a RedisConfig, address: &'a Address) -> Self {
        Self { config, address, credentials: config.credentials.as_ref(), database: None }
    }

    pub(crate) fn builder(&self) -> Result<Builder, CallError> {
        let mut fred = Config {
            server: self.server(),
            // fred logs in to RESP3 by HELLO, which cannot carry a password with a space or a quote.
            version: RespVersion::RESP2,
            database: self.database,
            fail_fast: true,
            ..Config::default()
        };
        if let Some(credentials) = self.credentials {
            fred.username.clone_from(&credentials.user);
            fred.password = Some(credentials.password.clone());
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.config.tls {
            fred.tls = Some(crate::tls::connector(tls)?.into());
        }
        let mut builder = Builder::from_config(fred);
        builder
            .set_connection_config(ConnectionConfig {
                connection_timeout: self.config.connect_timeout,
                internal_command_timeout: self.config.connect_timeout,
                max_command_attempts: 1,
                max_command_buffer_len: MAX_UNSENT,
                unresponsive: UnresponsiveConfig { max_timeout: None, ..UnresponsiveConfig::default() },
                tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
                // By default fred drops the connection at LOADING or READONLY, with all requests in flight on it.
                reconnect_errors: Vec::new(),
                ..ConnectionConfig::default()
            })
            .set_performance_config(PerformanceConfig {
                // `Conn::command` applies the timeout.
                default_command_timeout: Duration::ZERO,
                broadcast_channel_capacity: MAX_UNREAD,
                ..PerformanceConfig::default()
            });
        Ok(builder)
    }

    fn server(&self) -> ServerConfig {
        match self.address {
            Address::Host { host, port } => {
                #[allow(unused_mut, reason = "it is changed for TLS only")]
                let mut server = Server::new(host.as_str(), *port);
                #[cfg(feature = "tls")]
                if self.config.tls.is_some() {
                    // An IPv6 address has brackets in a URL and in a socket address, but not in a certificate.
                    let name = host.trim_start_matches('[').trim_end_matches(']');
                    server.tls_server_name = Some(name.into());
                }
                ServerConfig::Centralized { server }
            }
            #[cfg(unix)]
            Address::Socket(path) => ServerConfig::Unix { path: path.clone() },
            #[cfg(not(unix))]
            Address::Socket(_) => unreachable!("URLs of sockets are refused on this system"),
        }
    }

    pub(crate) fn connect_error(&self, error: fred::error::Error) -> CallError {
        use fred::error::ErrorKind;

        let details = error.details();
        let reason = match error.kind() {
            ErrorKind::IO if details.contains("ConnectionRefused") => {
                "the connection was refused: is the server running?".to_owned()
            }
            ErrorKind::IO if details.contains("NotFound") && matches!(self.address, Address::Socket(_)) => {
                "there is no such socket: is the server running, with this path as its unixsocket?".to_owned()
            }
            ErrorKind::IO if details.contains("PermissionDenied") => {
                "this user may not use the socket: see unixsocketperm in the server's settings".to_owned()
            }
            ErrorKind::IO if details.contains("lookup") || details.contains("resolve") => {
                "the host name is not known: check the host in the URL".to_owned()
            }
            ErrorKind::Timeout => self.unanswered().to_owned(),
            ErrorKind::Canceled => "the connection was closed while logging in".to_owned(),
            _ if self.config.tls.is_some() && is_of_transport(&error) => tls_reason(details),
            ErrorKind::IO => "the connection broke while logging in: does the server want TLS (rediss://)?".to_owned(),
            _ if is_of_transport(&error) => "the server does not speak the Redis protocol".to_owned(),
            // fred puts the server's answer to a login into the details of an error.
            _ => return CallError::Refused(details.to_owned()),
        };
        CallError::Unsent(Cause::new(reason).caused_by(error))
    }

    pub(crate) fn unanswered(&self) -> &'static str {
        if self.config.tls.is_some() {
            "is it a Redis server that speaks TLS on this port, and reachable?"
        } else {
            "is it a Redis server, and reachable?"
        }
    }
}

/// The cause of a failed handshake, as exact as the library reports it.
fn tls_reason(details: &str) -> String {
    let reason = if details.contains("UnknownIssuer") {
        "the server's certificate comes from an authority that is not trusted: name the authority's file by ca=FILE"
    } else if details.contains("NotValidForName") || details.contains("not valid for name") {
        "the server's certificate is not for this host: write a host that the certificate names"
    } else if details.contains("Expired") {
        "the server's certificate has expired"
    } else if ["CertificateRequired", "HandshakeFailure", "BadCertificate", "UnknownCA", "AccessDenied"]
        .iter()
        .any(|alert| details.contains(alert))
    {
        "the server refuses the certificate of this client, or wants one: name its files by cert=FILE and key=FILE"
    } else {
        "does the server speak TLS on this port, and does it require a client certificate (cert, key)?"
    };
    format!("TLS could not be set up: {reason} ({details})")
}

/// Maps an error of fred itself. The server's errors come as frames, except that a cluster is down.
pub(crate) fn call_error(error: fred::error::Error) -> CallError {
    use fred::error::ErrorKind;

    // These are the texts for a command after the connection's task has ended.
    let task_gone = ["Failed to send command to router.", "Client is not initialized."];
    if *error.kind() == ErrorKind::Backpressure {
        let reason = format!("more than {MAX_UNSENT} commands wait to be sent");
        return CallError::Unsent(Cause::new(reason).caused_by(error));
    }
    if task_gone.contains(&error.details()) {
        return CallError::Unsent(Cause::new("the connection is closed").caused_by(error));
    }
    // fred drops the connection at this answer, and returns it for every request in flight.
    let is_down = error.details().starts_with("CLUSTERDOWN");
    let reason = if is_down { CLUSTER_IS_DOWN } else { "the connection broke" };
    CallError::Unanswered(Cause::new(reason).caused_by(error))
}

pub(crate) fn unsent(error: fred::error::Error) -> CallError {
    CallError::Unsent(Cause::new("the connection cannot be set up").caused_by(error))
}

pub(crate) fn is_of_transport(error: &fred::error::Error) -> bool {
    use fred::error::ErrorKind;

    match error.kind() {
        ErrorKind::IO | ErrorKind::Protocol | ErrorKind::Parse | ErrorKind::Url | ErrorKind::Config => true,
        #[cfg(feature = "tls")]
        ErrorKind::Tls => true,
        _ => false,
    }
}
