//! The configuration of a connection: file and options.

mod error;

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rlock_core::{InvalidOption, Namespace};

pub use self::error::ConfigError;
use self::error::OPTIONS;
use crate::access::Access;

/// The file of the locks, and the options of a connection to it.
///
/// ```
/// use rlock_sqlite::SqliteConfig;
///
/// let config = SqliteConfig::from_url("sqlite:/var/lib/app/locks.db?namespace=billing")?;
/// assert_eq!(config.address(), "sqlite:/var/lib/app/locks.db");
/// # Ok::<(), rlock_sqlite::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteConfig {
    pub(crate) path: PathBuf,
    pub(crate) namespace: Namespace,
    pub(crate) timeout: Duration,
    pub(crate) access: Access,
    /// The user states that the file system belongs to this host alone.
    pub(crate) is_local: bool,
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const NOT_TEXT: &str = "it is not UTF-8 once percent-decoded: check the % in it";

impl SqliteConfig {
    /// Reads `sqlite:path?option=value&…`.
    ///
    /// A path without a leading `/` is relative to the current folder at the time of this call. Percent-encode characters
    /// that are special in a URL. Without a path the URL means [the user's own file](Self::user).
    ///
    /// | option | effect | default |
    /// | --- | --- | --- |
    /// | `namespace` | the part of the file that is used, as in [`namespace`](Self::namespace) | `rlock` |
    /// | `timeout` | the longest time that a request waits for other writers, as `500ms`, `5s` | `5s` |
    /// | `access` | the users of a file that is created, as in [`access`](Self::access): `user`, `group` or `all` | `user` |
    /// | `file_system` | `local` states that a FUSE file system belongs to this host alone | rlock refuses FUSE |
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the URL is malformed, repeats an option or has an unknown option. No error shows the URL of
    /// another store, because it may contain a password.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let (scheme, rest) = InvalidOption::split_scheme(url).ok_or(ConfigError::NoScheme)?;
        if !scheme.eq_ignore_ascii_case("sqlite") {
            return Err(ConfigError::Scheme { scheme: scheme.to_owned() });
        }
        let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
        let path = path.strip_prefix("//").unwrap_or(path);
        let unreadable = || ConfigError::Path { path: path.to_owned(), remedy: NOT_TEXT };
        let mut config = if path.is_empty() { Self::user()? } else { Self::at(decoded(path).ok_or_else(unreadable)?)? };
        let mut seen = Vec::new();
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let Some(name) = OPTIONS.into_iter().find(|known| *known == name) else {
                return Err(ConfigError::UnknownOption { option: InvalidOption::unknown_name(name) });
            };
            if seen.contains(&name) {
                return Err(ConfigError::Repeated { option: name });
            }
            seen.push(name);
            let value = decoded(value).ok_or(InvalidOption::unreadable(name, NOT_TEXT))?;
            config = match name {
                "namespace" => config.namespace(Namespace::new(value).map_err(ConfigError::Namespace)?),
                "timeout" => config.timeout(InvalidOption::timeout_of(name, &value)?)?,
                "access" => {
                    let access = Access::parse(&value);
                    config.access(access.ok_or(InvalidOption::unreadable(name, "write user, group or all"))?)
                }
                _ if value == "local" => config.local_file_system(),
                _ => return Err(InvalidOption::unreadable("file_system", "write local, or leave it out").into()),
            };
        }
        Ok(config)
    }

    /// Uses the file at `path`. Connecting creates the file if it is missing.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the path cannot be that of a file.
    pub fn at(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let shown = path.to_string_lossy();
        let unusable = |remedy| Err(ConfigError::Path { path: shown.clone().into_owned(), remedy });
        if shown.starts_with(":memory:") {
            return Err(ConfigError::InMemory);
        }
        if shown.contains('\0') || path.to_str().is_none() {
            return unusable("it is not UTF-8, or has a zero byte: use another path");
        }
        if shown.starts_with("~/") || shown == "~" {
            return unusable("the shell did not expand the ~: write $HOME instead");
        }
        if path.file_name().is_none() || shown.ends_with('/') || path.is_dir() {
            return unusable("it is a folder: write the path of a file in it");
        }
        // A service may leave the folder that it was started in before it opens the file.
        let Ok(path) = std::path::absolute(path) else {
            return unusable("the current folder has been deleted: write an absolute path");
        };
        let (namespace, access) = (Namespace::default(), Access::default());
        Ok(Self { path, namespace, timeout: DEFAULT_TIMEOUT, access, is_local: false })
    }

    /// Uses the user's own file: `rlock/locks.db` in `$XDG_STATE_HOME`, or else in `~/.local/state`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoHome`] if the environment names neither.
    pub fn user() -> Result<Self, ConfigError> {
        let folder = |name| env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
        let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
        Self::at(state.ok_or(ConfigError::NoHome)?.join("rlock/locks.db"))
    }

    /// Uses a part of the file: equal names in two namespaces are two resources.
    #[must_use]
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = namespace;
        self
    }

    /// Sets the longest time that a request waits for other writers of the file, from 1 ms to 1 h. The default is 5 s.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for less than a millisecond, and for more than an hour.
    pub fn timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.timeout = InvalidOption::timeout("timeout", timeout)?;
        Ok(self)
    }

    /// Sets the users of a file that is created: this user alone, a group, or all users of the host.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// States that a FUSE file system belongs to this host alone. Without this, connecting refuses FUSE. Connecting always
    /// refuses a network file system.
    #[must_use]
    pub fn local_file_system(mut self) -> Self {
        self.is_local = true;
        self
    }

    /// The name of the store in errors.
    pub fn address(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }
}

impl FromStr for SqliteConfig {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<Self, ConfigError> {
        Self::from_url(url)
    }
}

fn decoded(part: &str) -> Option<String> {
    percent_decode_str(part).decode_utf8().ok().map(String::from)
}

impl fmt::Display for SqliteConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address())
    }
}
