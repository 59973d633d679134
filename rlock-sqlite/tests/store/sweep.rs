//! The rows of resources that are not used any more.

use std::time::Duration;

use rlock_core::Acquired;
use rlock_testkit::wait::eventually;
use tempfile::TempDir;

use crate::support::{claim, open, release, sqlite};

#[tokio::test]
async fn unused_rows_are_removed_and_tokens_go_on() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let backend = open(&path).await;
    let far = 1_i64 << 52; // as if the clock of the host had been set back since
    for id in 0..600 {
        claim(&backend, &format!("x/{id}"), id).await.unwrap();
        release(&backend, &format!("x/{id}"), id).await.unwrap();
    }
    let file = sqlite(&path);
    file.execute("UPDATE resources SET expires = -60000000, last = ?", [far]).unwrap();
    let rows = || file.query_row("SELECT count(*) FROM resources", [], |row| row.get::<_, i64>(0)).unwrap();
    let is_swept = async || {
        claim(&backend, "y", 1).await.unwrap();
        rows() == 1
    };
    eventually(Duration::from_secs(10), "the sweep", is_swept).await;
    let Ok(Acquired::Held(grant)) = claim(&backend, "x/7", 7).await else { panic!("it is free") };
    assert_eq!(grant.token.get(), 1 + (1 << 52));
}

/// Their clients ended without reading them. Other clients read the notices between them.
#[tokio::test]
async fn one_sweep_removes_scattered_old_notices() {
    const WRITE: &str = "WITH RECURSIVE n (nr) AS (SELECT 1 UNION ALL SELECT nr + 1 FROM n WHERE nr < 50) \
         INSERT INTO mail (nr, inbox, id, token, sent) SELECT 1000 * nr, 'gone', x'', 1, -60000000 FROM n";
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("locks.db");
    let backend = open(&path).await;
    let file = sqlite(&path);
    assert_eq!(file.execute(WRITE, []).unwrap(), 50);
    claim(&backend, "x", 1).await.unwrap(); // the first request of a client sweeps
    let left = file.query_row("SELECT count(*) FROM mail", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(left, 0);
}
