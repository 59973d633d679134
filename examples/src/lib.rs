//! The common parts of the examples: a store to run on, and a custom store.

mod key_value;
mod key_value_backend;

use std::env;

pub use key_value::{Conflict, KeyValue, Versioned};
pub use key_value_backend::KeyValueBackend;
use tempfile::TempDir;

/// The store at `RLOCK_URL`, or a temporary file that is removed after the example.
#[derive(Debug)]
pub struct Store {
    url: String,
    _folder: Option<TempDir>,
}

impl Store {
    /// The store at `RLOCK_URL`, or a new file.
    ///
    /// # Panics
    ///
    /// Panics without `RLOCK_URL` if the system has no place for temporary files.
    pub fn open() -> Self {
        match env::var("RLOCK_URL") {
            Ok(url) => Self { url, _folder: None },
            Err(_) => {
                let folder = TempDir::new().expect("the system has a place for temporary files");
                let url = format!("sqlite:{}", folder.path().join("locks.db").display());
                Self { url, _folder: Some(folder) }
            }
        }
    }

    /// The URL of the store.
    pub fn url(&self) -> &str {
        &self.url
    }
}
