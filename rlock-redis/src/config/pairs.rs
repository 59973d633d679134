//! Options that are complete only in pairs.

use std::time::Duration;

use super::error::ConfigError;
use super::servers::Credentials;

const DEFAULT_WAIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Options that are complete only in pairs, which are checked after all are read.
#[derive(Default)]
pub(super) struct Pairs {
    pub(super) replicas: Option<u8>,
    pub(super) replicas_within: Option<Duration>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) sentinel_user: Option<String>,
    pub(super) sentinel_password: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl Pairs {
    /// The number of replicas that have to confirm a grant, and the time for that.
    pub(super) fn wait_replicas(&self) -> Result<Option<(u8, Duration)>, ConfigError> {
        match (self.replicas, self.replicas_within) {
            (Some(count), within) => Ok(Some((count, within.unwrap_or(DEFAULT_WAIT_TIMEOUT)))),
            (None, Some(_)) => Err(incomplete("wait_timeout", "wait_replicas")),
            (None, None) => Ok(None),
        }
    }

    /// The files of the client's certificate and of its private key.
    pub(super) fn identity(&self) -> Result<Option<(&str, &str)>, ConfigError> {
        match (self.cert.as_deref(), self.key.as_deref()) {
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            (Some(_), None) => Err(incomplete("cert", "key")),
            (None, Some(_)) => Err(incomplete("key", "cert")),
            (None, None) => Ok(None),
        }
    }

    /// The credentials for the sentinels.
    pub(super) fn sentinel_credentials(&self) -> Result<Option<Credentials>, ConfigError> {
        let options = ("sentinel_user", "sentinel_password");
        login(self.sentinel_user.as_deref(), self.sentinel_password.as_deref(), options)
    }

    /// The credentials for the server at a socket.
    pub(super) fn credentials(&self) -> Result<Option<Credentials>, ConfigError> {
        login(self.user.as_deref(), self.password.as_deref(), ("user", "pass"))
    }
}

fn login(
    user: Option<&str>,
    password: Option<&str>,
    options: (&'static str, &'static str),
) -> Result<Option<Credentials>, ConfigError> {
    match (user, password) {
        (user, Some(password)) => {
            Ok(Some(Credentials { user: user.map(str::to_owned), password: password.to_owned() }))
        }
        (Some(_), None) => Err(incomplete(options.0, options.1)),
        (None, None) => Ok(None),
    }
}

fn incomplete(option: &'static str, missing: &'static str) -> ConfigError {
    ConfigError::Incomplete { option, missing }
}
