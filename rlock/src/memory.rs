//! Locks in the memory of this process: for tests, and for programs that need no store yet.
//!
//! `memory:` is one store that all clients of the process share. `memory:?namespace=x` separates its names from those
//! of other namespaces. [`MemoryStore`] makes stores that share nothing.
//!
//! # Testing code that holds locks
//!
//! A test can show that code stops when it loses its lock, without a server and without waiting. The store and the
//! client can use tokio's clock, which a test pauses. [`break_leases`](crate::Client::break_leases) ends a lock at
//! once. `rlock_testkit::faults` has a backend that wraps another: it stops answering, loses answers or sends requests
//! twice. The documentation of that module has an example.

use std::sync::{Arc, LazyLock};

use rlock_core::{InvalidName, InvalidOption, Namespace};
use url::Url;

pub use rlock_core::{MemoryBackend, MemoryStore};

static STORE: LazyLock<Arc<MemoryStore>> = LazyLock::new(MemoryStore::new);

pub(crate) fn open(url: &str, namespace: Option<&Namespace>) -> Result<MemoryBackend, InvalidUrl> {
    let of_url = of_url(url)?;
    Ok(STORE.client(namespace.cloned().unwrap_or(of_url)))
}

fn of_url(url: &str) -> Result<Namespace, InvalidUrl> {
    let url = Url::parse(url).map_err(|_| InvalidUrl::NotAlone)?;
    if url.has_host() || !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err(InvalidUrl::NotAlone);
    }
    let mut namespace = None;
    for (option, value) in url.query_pairs() {
        if option != "namespace" {
            return Err(InvalidUrl::UnknownOption { option: InvalidOption::unknown_name(&option) });
        }
        if namespace.replace(Namespace::new(value)?).is_some() {
            return Err(InvalidUrl::Repeated);
        }
    }
    Ok(namespace.unwrap_or_default())
}

/// The error for an invalid `memory:` URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// The namespace is invalid.
    #[error("the URL memory: cannot be used: {0}")]
    Namespace(#[from] InvalidName),
    /// The URL contains a host, a path or a fragment.
    #[error("the URL memory: takes no host, path or fragment: write memory: or memory:?namespace=NAME")]
    NotAlone,
    /// The URL contains more than one namespace.
    #[error("the URL memory: takes one namespace: drop all but one")]
    Repeated,
    /// The URL contains an unknown option.
    #[error("the URL memory: has no option {option:?}: it takes namespace alone")]
    UnknownOption {
        /// The option, unless it looks like a part of a password.
        option: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_is_read_and_other_options_are_refused() {
        assert_eq!(of_url("memory:"), Ok(Namespace::default()));
        assert_eq!(of_url("memory://"), Ok(Namespace::default()));
        assert_eq!(of_url("MEMORY:?namespace=b%C3%BCro"), Ok(Namespace::new("büro").unwrap()));
        assert_eq!(of_url("memory:x"), Err(InvalidUrl::NotAlone));
        assert_eq!(of_url("memory://user:secret@host"), Err(InvalidUrl::NotAlone));
        assert_eq!(of_url("memory:?namespace=a&namespace=b"), Err(InvalidUrl::Repeated));
    }
}
