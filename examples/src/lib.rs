//! What the examples share: a store to run on, and a store of one's own.

mod key_value;
mod key_value_backend;

use std::env;

pub use key_value::{Conflict, KeyValue, Versioned};
pub use key_value_backend::KeyValueBackend;
use tempfile::TempDir;

/// The store at `RLOCK_URL`, or a file that is made for the example and ends with it.
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

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }
}
