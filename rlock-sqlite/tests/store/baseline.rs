//! The cost of a file without locks.

use rlock_core::{Baseline as _, Client, Namespace, SimpleLock};
use rlock_sqlite::{SqliteBackend, SqliteBaseline, SqliteConfig};

#[tokio::test]
async fn cleaning_up_removes_the_namespaces_locks_alone() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("locks.db").display());
    let config = |namespace: &str| SqliteConfig::from_url(&url).unwrap().namespace(Namespace::new(namespace).unwrap());
    let connect =
        async |namespace: &str| Client::builder().connect(SqliteBackend::connect(config(namespace))).await.unwrap();
    let clients = [connect("measured").await, connect("other").await];
    let [first, second] = &clients;
    let _held = [
        SimpleLock::new("job", first).unwrap().lock().await.unwrap(),
        SimpleLock::new("job", second).unwrap().lock().await.unwrap(),
    ];
    let baseline = SqliteBaseline::connect(config("measured")).await.unwrap();
    baseline.clean_up().await.unwrap();
    let holders = async |client: &Client| client.inspect("job").await.unwrap().holders.len();
    assert_eq!((holders(first).await, holders(second).await), (0, 1));
}
