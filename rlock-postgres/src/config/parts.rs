//! Splits a URL into rlock's options and the part that sqlx reads.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use rlock_core::InvalidOption;
use sqlx::postgres::PgSslMode;
use url::{ParseError, Url};

use super::error::{ConfigError, OURS};

pub(super) const SSL_MODES: &str = "write disable, allow, prefer, require, verify-ca or verify-full";

/// The parts of a URL: the URL for sqlx, and rlock's options.
pub(super) struct Parts {
    pub(super) url: Url,
    pub(super) ours: Vec<(&'static str, String)>,
}

impl Parts {
    pub(super) fn of(text: &str) -> Result<Self, ConfigError> {
        if text.contains('#') {
            return Err(ConfigError::Fragment);
        }
        // This check comes first: the errors below must not show the rest of a password.
        let behind = |rest: &'_ str| rest.find(['/', '?']).is_some_and(|end| rest[end..].contains('@'));
        if text.split_once("://").is_some_and(|(_, rest)| behind(rest)) {
            return Err(ConfigError::At);
        }
        // With a socket, no host follows the user.
        let is_elsewhere = text.contains("?host=") || text.contains("&host=") || text.contains("hostaddr=");
        let filled = text.replacen("@/", "@localhost/", usize::from(is_elsewhere));
        let mut url = Url::parse(&filled).map_err(|error| match error {
            ParseError::EmptyHost => ConfigError::NoHost,
            error => ConfigError::Malformed(error),
        })?;
        if !url.has_authority() {
            return Err(ConfigError::Malformed(ParseError::RelativeUrlWithoutBase));
        }
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(ConfigError::Scheme { scheme: url.scheme().to_owned() });
        }
        if url.port() == Some(0) {
            return Err(ConfigError::Port);
        }
        for (part, text) in
            [("user", url.username()), ("password", url.password().unwrap_or_default()), ("database", url.path())]
        {
            decode(part, text)?;
        }
        let Query { ours, mut theirs } = Query::of(url.query().unwrap_or_default())?;
        let host = decode("host", url.host_str().unwrap_or_default())?;
        if !theirs.iter().any(|(parameter, _)| matches!(parameter.as_str(), "host" | "hostaddr")) {
            // sqlx would take the host as the URL has it, encoded and in brackets.
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
            theirs.push(("host".to_owned(), checked_host(host)?));
        } else if host.starts_with('/') {
            // sqlx would prefer this socket to the parameter, which has to win.
            url.set_host(Some("localhost")).map_err(ConfigError::Malformed)?;
        }
        url.query_pairs_mut().clear().extend_pairs(theirs);
        Ok(Self { url, ours })
    }
}

/// The options of a URL, decoded.
#[derive(Default)]
struct Query {
    ours: Vec<(&'static str, String)>,
    theirs: Vec<(String, String)>,
}

impl Query {
    fn of(text: &str) -> Result<Self, ConfigError> {
        let mut query = Self::default();
        let mut seen = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (option, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (option, value) = (decode("options", option)?, decode("options", value)?);
            let ours = OURS.into_iter().find(|ours| *ours == option);
            let Some(name) = ours.or_else(|| parameter(&option)) else {
                let secret = seen.contains(&"password") || seen.contains(&"listen_url");
                return Err(if secret {
                    ConfigError::UnknownBehindPassword
                } else {
                    ConfigError::UnknownOption { option: InvalidOption::unknown_name(&option) }
                });
            };
            if seen.contains(&name) && name != "options" {
                return Err(ConfigError::Repeated { option: name });
            }
            seen.push(name);
            if ours.is_some() {
                query.ours.push((name, value));
            } else {
                check_parameter(name, &value)?;
                query.theirs.push((option, value));
            }
        }
        Ok(query)
    }
}

/// The parameter of this name, by the first of its names: one of sqlx's, or one of libpq's that has a remedy.
fn parameter(name: &str) -> Option<&'static str> {
    Some(match name {
        "sslmode" | "ssl-mode" => "sslmode",
        "sslrootcert" | "ssl-root-cert" | "ssl-ca" => "sslrootcert",
        "sslcert" | "ssl-cert" => "sslcert",
        "sslkey" | "ssl-key" => "sslkey",
        "statement-cache-capacity" => "statement-cache-capacity",
        "channel_binding" => "channel_binding",
        "target_session_attrs" => "target_session_attrs",
        "host" => "host",
        "hostaddr" => "hostaddr",
        "port" => "port",
        "dbname" => "dbname",
        "user" => "user",
        "password" => "password",
        "application_name" => "application_name",
        "options" => "options",
        _ => {
            let setting = name.strip_prefix("options[")?.strip_suffix(']')?;
            return (!setting.is_empty()).then_some("options");
        }
    })
}

/// Checks that sqlx can use a parameter. sqlx's own error repeats the value, and comes for some only when it connects.
fn check_parameter(name: &'static str, value: &str) -> Result<(), ConfigError> {
    let remedy = match name {
        "sslmode" if value.parse::<PgSslMode>().is_err() => SSL_MODES,
        "sslrootcert" | "sslcert" | "sslkey" if value.is_empty() => "write the name of a PEM file",
        "statement-cache-capacity" => "rlock knows how many statements it has; leave it out",
        "channel_binding" => "sqlx has none; leave it out, and check the server by sslmode=verify-full",
        "target_session_attrs" => "rlock refuses a standby; leave it out, and name a host that leads to the primary",
        "host" => return checked_host(value).map(drop),
        "hostaddr" if value.parse::<IpAddr>().is_err() => "write an address, as 10.0.0.7 or ::1",
        "port" if !value.parse::<u16>().is_ok_and(|port| port > 0) => "write a number from 1 to 65535",
        _ => return Ok(()),
    };
    Err(InvalidOption::unreadable(name, remedy).into())
}

fn checked_host(host: &str) -> Result<String, ConfigError> {
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ',' | '/' | '[' | ']');
    match host {
        "" => Err(ConfigError::NoHost),
        path if path.starts_with('/') && !path.contains(char::is_control) => Ok(path.to_owned()),
        name if name.contains(odd) => Err(ConfigError::Host { host: name.to_owned() }),
        name => Ok(name.to_owned()),
    }
}

fn decode(part: &'static str, text: &str) -> Result<String, ConfigError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| ConfigError::NotText { part })?;
    // Postgres ends a text at a zero byte, and would read the rest as something else.
    if decoded.contains('\0') {
        return Err(ConfigError::NotText { part });
    }
    Ok(decoded.into_owned())
}
