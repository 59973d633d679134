//! rlock-sqlite passes the suite.

use std::sync::Arc;

use rlock_core::{Backend, Namespace};
use rlock_sqlite::{SqliteBackend, SqliteConfig};
use rlock_testkit::faults::Control;
use rlock_testkit::servers::SqliteFile;
use rlock_testkit::{Controlled, Harness, Shared, async_trait};
use rusqlite::Connection;

rlock_testkit::conformance!(sqlite: SqliteHarness, without(network));

struct SqliteHarness {
    file: SqliteFile,
}

#[async_trait]
impl Harness for SqliteHarness {
    async fn start() -> Self {
        Self { file: SqliteFile::start() }
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        let config = SqliteConfig::at(self.file.path()).expect("a good path").namespace(namespace.clone());
        Arc::new(SqliteBackend::connect(config).await.expect("the file can be opened"))
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        // The row of a free resource keeps its tokens increasing, and is removed a minute after its last use.
        const LEFT: &str = "SELECT name FROM resources WHERE namespace = ? AND (id IS NOT NULL OR crowd > 0 OR taken > 0) \
             UNION ALL SELECT 'a lease' FROM leases UNION ALL SELECT 'a notice' FROM mail";
        let file = Connection::open(self.file.path()).expect("it is there");
        let mut left = file.prepare(LEFT).expect("it has these tables");
        let rows = left.query_map([namespace.as_str()], |row| row.get(0)).expect("it can be read");
        rows.map(|row| row.expect("it can be read")).collect()
    }
}

#[async_trait]
impl Shared for SqliteHarness {
    fn address(&self) -> String {
        self.file.path().display().to_string()
    }

    async fn attach(address: &str) -> Self {
        Self { file: SqliteFile::at(address) }
    }
}

#[async_trait]
impl Controlled for SqliteHarness {
    async fn start_durable() -> Self {
        Self::start().await
    }

    fn server(&self) -> &dyn Control {
        &self.file
    }
}
