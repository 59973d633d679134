//! Names of the file beside its own.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;

use rlock_core::{Acquired, Released};
use tempfile::TempDir;

use crate::support::{claim, config, is_held, open, refused, release};

#[tokio::test]
async fn clients_by_link_and_target_take_turns() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("real")).unwrap();
    symlink("real", path("folder")).unwrap();
    symlink("real/locks.db", path("link")).unwrap();
    // The first of them finds a link to where no file is.
    let clients = [open(&path("link")).await, open(&path("folder/locks.db")).await, open(&path("real/locks.db")).await];
    assert!(is_held(claim(&clients[0], "x", 1).await));
    for (client, id) in clients[1..].iter().zip(2..) {
        assert!(matches!(claim(client, "x", id).await, Ok(Acquired::Queued(_))));
    }
    assert!(matches!(release(&clients[0], "x", 1).await, Ok(Released::Released)));
    let mut beside: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    beside.sort();
    assert_eq!(beside, ["folder", "link", "real"], "the files beside it stand beside the target");
}

#[tokio::test]
async fn a_file_with_two_names_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    drop(open(&path("locks.db")).await);
    fs::hard_link(path("locks.db"), path("other.db")).unwrap();
    for name in ["locks.db", "other.db"] {
        let refused = refused(config(&path(name))).await.to_string();
        assert!(refused.contains("remove all names but one"), "{refused}");
    }
}
