//! The users of the host who may use a file.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rlock_core::Backend as _;
use rlock_sqlite::{Access, SqliteConfig};
use rlock_testkit::process::block_on;
use tempfile::TempDir;

use crate::support::{claim, config, is_held, open};

const FILES: [&str; 6] = ["", "-wal", "-shm", "-turn", "-next", "-open"];
/// The file that a copy of a test uses as another user.
const FILE: &str = "RLOCK_TEST_FILE";
const OTHER_USER: u32 = 65_534;

#[tokio::test]
async fn new_file_has_the_requested_rights() {
    let folder = TempDir::new().unwrap();
    for (name, access, in_folder, of_file) in
        [("me", Access::User, 0o700, 0o600), ("us", Access::Group, 0o750, 0o660), ("all", Access::All, 0o755, 0o666)]
    {
        let path = folder.path().join(name).join("deep/locks.db");
        let backend = rlock_sqlite::SqliteBackend::connect(config(&path).access(access)).await.unwrap();
        assert!(is_held(claim(&backend, "x", 1).await));
        drop(backend);
        assert_eq!((mode(&folder.path().join(name)), mode(path.parent().unwrap())), (in_folder, in_folder));
        for suffix in FILES {
            assert_eq!(mode(&beside(&path, suffix)), of_file, "{name} {suffix}");
        }
    }
    let config = SqliteConfig::from_url("sqlite:/var/lib/rlock/locks.db?access=all").unwrap();
    assert_eq!(config, crate::support::config(Path::new("/var/lib/rlock/locks.db")).access(Access::All));
}

/// A user who may not write to the folder can neither delete the file nor put another in its place, and uses it all the same.
#[test]
fn users_share_a_file_in_roots_folder() {
    if let Some(path) = std::env::var_os(FILE) {
        return block_on(use_it(Path::new(&path)));
    }
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("shared/locks.db");
    block_on(async {
        drop(rlock_sqlite::SqliteBackend::connect(config(&path).access(Access::All)).await.unwrap());
    });
    // Whether or not others are connected.
    as_other_user("users_share_a_file_in_roots_folder", &path);
    block_on(async {
        let backend = open(&path).await;
        as_other_user("users_share_a_file_in_roots_folder", &path);
        assert!(is_held(claim(&backend, "y", 1).await));
    });
}

/// As after `sudo -E`.
#[test]
fn file_of_root_belongs_to_the_folders_user() {
    if let Some(path) = std::env::var_os(FILE) {
        return block_on(use_it(Path::new(&path)));
    }
    if !rustix::process::geteuid().is_root() {
        return; // other users make no files in this one's folder
    }
    let folder = TempDir::new().unwrap();
    chown(folder.path(), Some(OTHER_USER), Some(OTHER_USER)).unwrap();
    let path = folder.path().join("state/locks.db");
    block_on(async { drop(open(&path).await) });
    for suffix in FILES {
        assert_eq!(fs::metadata(beside(&path, suffix)).unwrap().uid(), OTHER_USER, "{suffix}");
    }
    as_other_user("file_of_root_belongs_to_the_folders_user", &path);
}

/// Runs a test again as another user, if this one may do that. The program may stand where that user cannot go.
fn as_other_user(test: &str, path: &Path) {
    let mut command = if rustix::process::geteuid().is_root() {
        let program = path.with_file_name("program");
        if !program.exists() {
            // By another process: the program could not be started while a child of this one had it open for writing.
            let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
            assert!(copied.unwrap().success());
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new(program);
        command.uid(OTHER_USER).gid(OTHER_USER);
        command
    } else {
        Command::new(std::env::current_exe().unwrap())
    };
    let name = format!("access::{test}");
    let output = command.args([&name, "--exact", "--nocapture"]).env(FILE, path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "it did not run");
}

async fn use_it(path: &Path) {
    let backend = open(path).await;
    let id = std::process::id();
    assert!(is_held(claim(&backend, &id.to_string(), 1).await));
    assert!(backend.list(&rlock_core::ListFilter { limit: 10, ..Default::default() }).await.is_ok());
}

fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    format!("{}{suffix}", path.display()).into()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
