//! The option that names the store.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Store {
    /// The store, such as redis://localhost:6379 [default: sqlite:, a file in the user's home]
    ///
    /// Other users of this machine can read a command line. Put a URL with a password into RLOCK_URL.
    #[arg(id = "url", long = "url", value_name = "URL", env = "RLOCK_URL", hide_env_values = true)]
    pub(crate) given: Option<String>,
}

/// The store without a URL: the user's own file, if SQLite is built in.
const DEFAULT: &str = if cfg!(feature = "sqlite") { "sqlite:" } else { "" };

impl Store {
    /// Not empty once [`parse`](super::parse) has returned.
    pub(crate) fn url(&self) -> &str {
        self.given.as_deref().unwrap_or(DEFAULT)
    }

    /// The URL of a store that a client has connected to, without the user, the password and the options.
    pub(crate) fn shown(&self) -> String {
        let (url, _options) = self.url().split_once('?').unwrap_or((self.url(), ""));
        match url.split_once("://") {
            Some((scheme, rest)) if scheme != "sqlite" => {
                let (_user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
                format!("{scheme}://{place}")
            }
            _ => url.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_shown_without_secrets() {
        for (url, shown) in [
            ("redis://user:secret@host:6379/0?timeout=2s", "redis://host:6379/0"),
            ("redis-sentinel://:secret@a:1,b:2/main", "redis-sentinel://a:1,b:2/main"),
            ("postgres://host/app?password=secret", "postgres://host/app"),
            ("sqlite:/var/lib/locks.db?access=group", "sqlite:/var/lib/locks.db"),
            ("sqlite:///var/lib/user@host/locks.db", "sqlite:///var/lib/user@host/locks.db"),
        ] {
            assert_eq!(Store { given: Some(url.into()) }.shown(), shown);
        }
    }
}
