//! The address that clients connect to.

use rlock_testkit::servers::PgBouncer;

/// A server itself, or a pooler in front of it.
pub(crate) struct Endpoint {
    url: String,
    _pooler: Option<PgBouncer>,
}

impl Endpoint {
    pub(crate) fn direct(server: &str) -> Self {
        Self { url: server.to_owned(), _pooler: None }
    }

    pub(crate) fn pooled(server: &str) -> Self {
        let pooler = PgBouncer::start(server);
        Self { url: pooler.url().to_owned(), _pooler: Some(pooler) }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}
