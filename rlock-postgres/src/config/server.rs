//! The server that a URL names.

use std::env;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rlock_core::InvalidOption;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use super::error::ConfigError;
use super::parts::SSL_MODES;

/// A server: sqlx's options for a connection to it, derived from a URL, the environment and the password file, or those
/// of a pool.
#[derive(Clone)]
pub(crate) struct Server {
    pub(super) options: PgConnectOptions,
}

impl Server {
    pub(super) fn at(mut url: Url) -> Result<Self, ConfigError> {
        // sqlx does not default to the system's user.
        let names_user = !url.username().is_empty() || url.query_pairs().any(|(parameter, _)| parameter == "user");
        if !names_user
            && env::var_os("PGUSER").is_none()
            && let Some(user) = system_user()
        {
            url.query_pairs_mut().append_pair("user", &user);
        }
        if env::var("PGSSLMODE").is_ok_and(|mode| mode.parse::<PgSslMode>().is_err()) {
            return Err(InvalidOption::unreadable("PGSSLMODE", SSL_MODES).into());
        }
        // sqlx's error may repeat a part of the URL.
        let options = PgConnectOptions::from_url(&url).map_err(|_| ConfigError::NotAccepted)?;
        Self::with(options)
    }

    pub(super) fn with(options: PgConnectOptions) -> Result<Self, ConfigError> {
        let mut options = options.disable_statement_logging();
        // rlock reads no fractions, and some poolers refuse this parameter.
        options = options.extra_float_digits(None);
        if options.get_application_name().is_none() {
            options = options.application_name("rlock");
        }
        // The default host of sqlx may be the directory of a socket.
        if options.get_socket().is_none() && options.get_host().starts_with('/') {
            let directory = options.get_host().to_owned();
            options = options.socket(directory);
        }
        if options.get_socket().is_some() {
            options = options.ssl_mode(PgSslMode::Disable); // as libpq does
        }
        let encrypted =
            matches!(options.get_ssl_mode(), PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull);
        if encrypted && !cfg!(feature = "tls") {
            return Err(ConfigError::TlsOff);
        }
        Ok(Self { options })
    }

    pub(super) fn address(&self) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, SPECIAL).to_string();
        let database = self.options.get_database().map(encoded);
        let port = self.options.get_port();
        if let Some(directory) = self.options.get_socket() {
            let directory = encoded(&directory.to_string_lossy());
            return format!("postgres:///{}?host={directory}&port={port}", database.unwrap_or_default());
        }
        let host = self.options.get_host();
        let host = if host.contains(':') { format!("[{host}]") } else { encoded(host) };
        format!("postgres://{host}:{port}{}", database.map_or_else(String::new, |name| format!("/{name}")))
    }
}

/// The name of the user that this process runs as, as libpq takes it.
fn system_user() -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let id = std::fs::metadata("/proc/self").ok()?.uid().to_string();
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = |line: &str| {
            let mut fields = line.split(':');
            let (name, _password, number) = (fields.next()?, fields.next()?, fields.next()?);
            (number == id).then(|| name.to_owned())
        };
        if let Some(name) = users.lines().find_map(name) {
            return Some(name);
        }
    }
    ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(|variable| env::var(variable).ok())
}

/// sqlx's options cannot be compared, but their debug format shows every field.
impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        format!("{:?}", self.options) == format!("{:?}", other.options)
    }
}

impl Eq for Server {}

/// The characters that would end a part of a URL, or be hard to read in one.
const SPECIAL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
