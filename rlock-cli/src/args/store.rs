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
}
