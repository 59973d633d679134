//! rlock-sqlite passes the suite.

use std::path::PathBuf;
use std::sync::Arc;

use rlock_core::{Backend, Namespace};
use rlock_sqlite::{SqliteBackend, SqliteConfig};
use rlock_testkit::{Harness, Shared, async_trait};
use sqlx::{Connection as _, Row as _, SqliteConnection};
use tempfile::TempDir;

rlock_testkit::conformance!(sqlite: SqliteHarness, without(network, control, rest, data));

struct SqliteHarness {
    path: PathBuf,
    /// Of the test that made it.
    _folder: Option<TempDir>,
}

#[async_trait]
impl Harness for SqliteHarness {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("the system has a place for temporary files");
        Self { path: folder.path().join("locks.db"), _folder: Some(folder) }
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        let config = SqliteConfig::at(&self.path).expect("a good path").namespace(namespace.clone());
        Arc::new(SqliteBackend::connect(config).await.expect("the file can be opened"))
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        const LEFT: &str = "SELECT name FROM leases WHERE namespace = ? UNION ALL SELECT 'a message' FROM mail";
        let url = format!("sqlite:{}", self.path.display());
        let mut file = SqliteConnection::connect(&url).await.expect("it is there");
        let rows = sqlx::query(LEFT).bind(namespace.as_str()).fetch_all(&mut file).await.expect("it has these tables");
        rows.iter().map(|row| row.get(0)).collect()
    }
}

#[async_trait]
impl Shared for SqliteHarness {
    fn address(&self) -> String {
        self.path.display().to_string()
    }

    async fn attach(address: &str) -> Self {
        Self { path: address.into(), _folder: None }
    }
}
