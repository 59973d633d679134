//! What the examples share: a store to run on, and a store of one's own.

mod key_value;
mod key_value_backend;

use std::env;

pub use key_value::{Conflict, KeyValue, Versioned};
pub use key_value_backend::KeyValueBackend;
use rlock_testkit::servers::Redis;

/// The store at `RLOCK_URL`, or a Redis server that is started for the example and ends with it.
pub struct Store {
    url: String,
    _server: Option<Redis>,
}

impl Store {
    /// The store at `RLOCK_URL`, or a new Redis server.
    ///
    /// # Panics
    ///
    /// Panics without `RLOCK_URL` if `redis-server` is not installed.
    pub fn open() -> Self {
        match env::var("RLOCK_URL") {
            Ok(url) => Self { url, _server: None },
            Err(_) => {
                let server = Redis::start();
                // Nobody held anything in it before.
                Self { url: format!("{}?restart_grace=0s", server.url()), _server: Some(server) }
            }
        }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }
}
