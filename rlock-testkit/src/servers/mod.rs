//! The servers that tests run on.
//!
//! They come from a URL in the environment (`RLOCK_TEST_REDIS_URL`), or else from a server program on the `PATH`
//! that is started in a temporary folder and stopped when the value that stands for it is dropped.
//! `RLOCK_TEST_SERVERS=local` passes over the URL. With neither of them, starting a server panics and says what to
//! install: a suite that found no server has failed.

mod local;
mod redis;
mod resp;

use std::env;

pub use redis::Redis;
pub use resp::{Reply, Resp};

/// Where `RLOCK_TEST_SERVERS` wants servers to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Any,
    Local,
}

impl Source {
    fn wanted() -> Self {
        match env::var("RLOCK_TEST_SERVERS").as_deref() {
            Err(_) | Ok("") => Self::Any,
            Ok("local") => Self::Local,
            Ok("containers") => {
                panic!("RLOCK_TEST_SERVERS=containers: containers are not supported yet; unset it, or say `local`")
            }
            Ok(other) => panic!("RLOCK_TEST_SERVERS={other}: not one of `local` and `containers`"),
        }
    }

    /// The URL in the variable, unless local servers are forced.
    fn url(variable: &str) -> Option<String> {
        let forced = Self::wanted() == Self::Local;
        env::var(variable).ok().filter(|url| !forced && !url.is_empty())
    }
}
