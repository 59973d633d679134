//! Connecting a client by a URL.
//!
//! The public functions return boxed futures. The futures of `async fn`s would be compiled in the crate of each caller,
//! with the drivers of all stores, after each change of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use rlock_core::blocking::NoThread;
use rlock_core::{Backend, Client, ClientBuilder, Failure, InvalidOption, Namespace, StartError};

#[cfg(feature = "etcd")]
use crate::etcd::{self, EtcdBackend, EtcdConfig};
use crate::memory;
#[cfg(feature = "postgres")]
use crate::postgres::{self, PostgresBackend, PostgresConfig};
#[cfg(feature = "redis")]
use crate::redis::{self, RedisBackend, RedisConfig};
#[cfg(feature = "sqlite")]
use crate::sqlite::{self, SqliteBackend, SqliteConfig};

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, ConnectError>> + Send>>;

/// Connects a client to the store at `url`, with the defaults of [`Client::builder`].
///
/// The [table of stores](crate#stores) lists the schemes and their features. The client sends a request to the store
/// before this returns, so a wrong address or password fails here and not at the first lock.
///
/// # Errors
///
/// [`ConnectError`] says what is wrong with the URL or the store, and how to correct it. It never contains a password.
///
/// # Cancel safety
///
/// Dropping the future drops the connection.
pub fn connect(url: &str) -> Connecting<Client> {
    connect_with(url, Client::builder())
}

/// Like [`connect`], with the caller's settings: a label, another TTL, the caller's runtime.
///
/// ```
/// # async fn doc() -> Result<(), rlock::ConnectError> {
/// let builder = rlock::Client::builder().label("invoices").runtime(tokio::runtime::Handle::current());
/// let client = rlock::connect_with("memory:", builder).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// As for [`connect`].
///
/// # Cancel safety
///
/// As for [`connect`].
pub fn connect_with(url: &str, builder: ClientBuilder) -> Connecting<Client> {
    Box::pin(builder.try_connect(open(url, None)))
}

/// Connects a backend of the store at `url` on this runtime, for use without a client, such as to check a store with
/// the cases of `rlock-testkit`. With a `namespace`, that replaces the one in the URL.
///
/// # Errors
///
/// As for [`connect`].
///
/// # Cancel safety
///
/// As for [`connect`].
pub fn open(url: &str, namespace: Option<&Namespace>) -> Connecting<Arc<dyn Backend>> {
    let (url, namespace) = (url.to_owned(), namespace.cloned());
    Box::pin(async move { open_in(&url, namespace.as_ref()).await })
}

async fn open_in(url: &str, namespace: Option<&Namespace>) -> Result<Arc<dyn Backend>, ConnectError> {
    let scheme = scheme(url)?;
    match feature(&scheme) {
        Some("memory") => Ok(Arc::new(memory::open(url, namespace)?)),
        #[cfg(feature = "redis")]
        Some("redis") => {
            let config = within(namespace, RedisConfig::from_url(url)?, RedisConfig::namespace);
            Ok(Arc::new(RedisBackend::connect(config).await?))
        }
        #[cfg(feature = "etcd")]
        Some("etcd") => {
            let config = within(namespace, EtcdConfig::from_url(url)?, EtcdConfig::namespace);
            Ok(Arc::new(EtcdBackend::connect(config).await?))
        }
        #[cfg(feature = "postgres")]
        Some("postgres") => {
            let config = within(namespace, PostgresConfig::from_url(url)?, PostgresConfig::namespace);
            Ok(Arc::new(PostgresBackend::connect(config).await?))
        }
        #[cfg(feature = "sqlite")]
        Some("sqlite") => {
            let config = within(namespace, SqliteConfig::from_url(url)?, SqliteConfig::namespace);
            Ok(Arc::new(SqliteBackend::connect(config).await?))
        }
        _ => Err(refusal(&scheme)),
    }
}

#[cfg(any(feature = "etcd", feature = "postgres", feature = "redis", feature = "sqlite"))]
fn within<C>(namespace: Option<&Namespace>, config: C, set: impl FnOnce(C, Namespace) -> C) -> C {
    match namespace {
        Some(namespace) => set(config, namespace.clone()),
        None => config,
    }
}

/// Returns the scheme in lower case. Text that is not a valid scheme may be a secret, and the error does not repeat it.
pub(crate) fn scheme(url: &str) -> Result<String, ConnectError> {
    let (scheme, _) = InvalidOption::split_scheme(url).ok_or(ConnectError::NoScheme)?;
    Ok(scheme.to_ascii_lowercase())
}

/// The URLs of all stores, for errors.
const STORES: &str = "redis://HOST:PORT, redis-sentinel://HOST:PORT,HOST:PORT/SERVICE, redis-cluster://HOST:PORT,HOST:PORT, \
                      the same with rediss in front for TLS, redis+unix:///SOCKET, the same of valkey, \
                      etcd://HOST:PORT, etcds://HOST:PORT, \
                      postgres://HOST:PORT/DATABASE, postgresql://HOST:PORT/DATABASE, sqlite:PATH or memory:";

/// Returns the feature that provides a scheme. `memory:` needs no feature; the answer is `memory`.
pub(crate) fn feature(scheme: &str) -> Option<&'static str> {
    Some(match scheme {
        "redis" | "redis-sentinel" | "redis-cluster" | "rediss" | "rediss-sentinel" | "rediss-cluster"
        | "redis+unix" => "redis",
        "valkey" | "valkey-sentinel" | "valkey-cluster" | "valkeys" | "valkeys-sentinel" | "valkeys-cluster"
        | "valkey+unix" => "redis",
        "etcd" | "etcds" => "etcd",
        "postgres" | "postgresql" => "postgres",
        "sqlite" => "sqlite",
        "memory" => "memory",
        _ => return None,
    })
}

pub(crate) fn refusal(scheme: &str) -> ConnectError {
    let scheme = scheme.to_owned();
    match feature(&scheme) {
        Some(feature) => ConnectError::FeatureOff { scheme, feature },
        None => ConnectError::UnknownScheme { scheme },
    }
}

/// Returns the tools that a build with `feature` needs, in addition to the line that enables it.
fn needed_for(feature: &str) -> &'static str {
    match feature {
        "sqlite" => "; building it needs a C compiler",
        "etcd" => "; building it needs protoc (Debian: apt-get install protobuf-compiler libprotobuf-dev)",
        _ => "",
    }
}

/// The reason why no client was connected: the URL, a store that is not built in, the client's settings, the operating
/// system, or the store itself. Neither its text nor its `Debug` contains a password.
///
/// The backends fail to connect with [`backend::ConnectError`](crate::backend::ConnectError); this error adds the URLs
/// and the settings of a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The scheme belongs to a feature that is not enabled in this program.
    #[error(
        "this program was built without {scheme}: install the command rlock with --features {feature}, or enable the \
         feature in Cargo.toml: rlock-client = {{ version = \"{version}\", features = [\"{feature}\"] }}{needed}",
        version = env!("CARGO_PKG_VERSION"),
        needed = needed_for(feature)
    )]
    FeatureOff {
        /// The scheme.
        scheme: String,
        /// The feature that provides the scheme.
        feature: &'static str,
    },
    /// An invalid `etcd:` or `etcds:` URL.
    #[cfg(feature = "etcd")]
    #[error(transparent)]
    Etcd(#[from] etcd::ConfigError),
    /// An invalid `memory:` URL.
    #[error(transparent)]
    Memory(#[from] memory::InvalidUrl),
    /// The text does not begin with a URL scheme.
    #[error("the address of a store has to be a URL that begins with its scheme: {STORES}")]
    NoScheme,
    /// The builder of a [blocking](crate::blocking) client has a runtime of the caller's.
    #[error(transparent)]
    NoThread(#[from] NoThread),
    /// An invalid `postgres:` or `postgresql:` URL.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] postgres::ConfigError),
    /// An invalid `redis:` or `rediss:` URL.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Redis(#[from] redis::ConfigError),
    /// The store refuses, and will refuse again until a setting, a right or the URL changes, such as a wrong password.
    #[error(transparent)]
    Rejected(Failure),
    /// No store has this scheme.
    #[error("no store has the scheme {scheme:?}: use {STORES}")]
    UnknownScheme {
        /// The scheme.
        scheme: String,
    },
    /// An invalid `sqlite:` URL.
    #[cfg(feature = "sqlite")]
    #[error(transparent)]
    Sqlite(#[from] sqlite::ConfigError),
    /// The operating system refuses to start a thread for the client.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The store did not answer, or is not ready.
    #[error(transparent)]
    Unreachable(Failure),
}

impl ConnectError {
    /// Whether the store did not answer or is not ready, so that a retry may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// Whether the store answered and refused.
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }
}

impl From<rlock_core::ConnectError> for ConnectError {
    fn from(error: rlock_core::ConnectError) -> Self {
        match error {
            rlock_core::ConnectError::Unreachable(failure) => Self::Unreachable(failure),
            rlock_core::ConnectError::Rejected(failure) => Self::Rejected(failure),
            other => Self::Rejected(Failure::new("connect", "the store", other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disabled_scheme_names_its_feature() {
        for (scheme, feature) in
            [("rediss-cluster", "redis"), ("etcds", "etcd"), ("postgresql", "postgres"), ("sqlite", "sqlite")]
        {
            let message = refusal(scheme).to_string();
            let line = format!("features = [\"{feature}\"]");
            assert!(message.contains("rlock-client = {"), "{message}");
            assert!(message.contains(&line) && message.contains(scheme), "{message}");
            assert!(message.contains(&format!("--features {feature},")), "{message}");
            assert_eq!(message.contains("apt-get install protobuf-compiler"), feature == "etcd", "{message}");
        }
    }

    #[test]
    fn unknown_scheme_is_answered_with_the_known() {
        let message = refusal("mysql").to_string();
        for scheme in
            ["redis", "redis-sentinel", "redis-cluster", "redis+unix", "etcd", "etcds", "postgres", "sqlite", "memory"]
        {
            assert!(message.contains(&format!(" {scheme}:")), "{message}");
        }
    }

    #[test]
    fn what_is_not_a_scheme_is_not_repeated() {
        for secret in ["", "hunter2", ":hunter2@host", "hunter2@host:6379", "//user:hunter2@host", "2hunter2:x"] {
            let message = scheme(secret).unwrap_err().to_string();
            assert!(message.contains("redis://HOST:PORT") && !message.contains("hunter2"), "{message}");
        }
    }
}
