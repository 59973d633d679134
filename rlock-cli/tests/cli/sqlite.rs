//! On SQLite.

#[cfg(feature = "bench")]
#[path = "bench.rs"]
mod bench;
#[path = "elect.rs"]
mod elect;
#[path = "exit.rs"]
mod exit;
#[path = "freeze.rs"]
mod freeze;
#[path = "handle.rs"]
mod handle;
#[path = "kinds.rs"]
mod kinds;
#[path = "loss.rs"]
mod loss;
#[path = "manage.rs"]
mod manage;
#[path = "namespace.rs"]
mod namespace;
#[path = "other_user.rs"]
mod other_user;
#[path = "packaging.rs"]
mod packaging;
#[path = "process_limit.rs"]
mod process_limit;
#[path = "run.rs"]
mod run;
#[path = "show.rs"]
mod show;
#[path = "signals.rs"]
mod signals;
#[path = "storm.rs"]
mod storm;
#[path = "terminal.rs"]
mod terminal;
#[path = "tree.rs"]
mod tree;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rlock_testkit::servers::SqliteFile as Server;
use rusqlite::Connection;

use crate::support::{Folder, Rlock, Store, rlock};

impl Store for Server {
    const SCHEME: &str = "sqlite";

    #[cfg(any(feature = "bench", feature = "suite"))]
    fn left_in(&self, part: &str) -> Vec<String> {
        let folder = self.path().parent().expect("the file is in a folder");
        let files = fs::read_dir(folder).expect("the folder is there");
        let names = files.map(|file| file.expect("it can be read").file_name().to_string_lossy().into_owned());
        let files = names.filter(|name| name.contains("-bench-"));
        const LEFT: &str = "SELECT namespace || ':' || name FROM resources WHERE instr(namespace, ?) > 0";
        let locks = Connection::open(self.path()).expect("it is there");
        let mut left = locks.prepare(LEFT).expect("it has the table");
        let left = left.query_map([part], |row| row.get(0)).expect("it can be read");
        let leases: Vec<String> = left.map(|name| name.expect("it can be read")).collect();
        files.chain(leases).collect()
    }

    fn fresh_url(&self) -> String {
        self.url()
    }
}

#[test]
fn url_defaults_to_the_users_own_file() {
    let home = Folder::new();
    let state = home.path("state");
    let command = |arguments: &[&str]| {
        let mut command = rlock(arguments);
        command.env("HOME", home.path("")).env("XDG_STATE_HOME", &state);
        command
    };
    let script = home.script("echo > $D/ready; cat");
    let holder = Rlock::start(&mut command(&["run", "nightly", "--", "sh", "-c", &script]));
    home.wait_for("ready", 1);
    Rlock::start(&mut command(&["run", "nightly", "--try", "--", "true"])).exit().assert(75, &[]);
    let shown = Rlock::start(&mut command(&["show", "nightly"])).exit();
    assert!(shown.stdout.contains("held"), "{}", shown.stdout);
    holder.exit().assert(0, &["released"]);

    let mode = |path: &str| fs::metadata(state.join(path)).expect(path).permissions().mode() & 0o777;
    assert_eq!(mode("rlock"), 0o700);
    assert_eq!((mode("rlock/locks.db"), mode("rlock/locks.db-turn")), (0o600, 0o600));

    let elsewhere = command(&["run", "nightly", "--", "true"]).env_remove("XDG_STATE_HOME").status();
    assert!(elsewhere.expect("the system starts another process").success());
    assert!(home.path(".local/state/rlock/locks.db").is_file());
    let nowhere =
        Rlock::start(command(&["run", "x", "--", "true"]).env_remove("XDG_STATE_HOME").env_remove("HOME")).exit();
    nowhere.assert(64, &["write the path of the file, as sqlite:path/to/file"]);
}

#[test]
fn lock_is_taken_in_a_time_namespace_too() {
    let server = Server::start();
    let mut holder = Rlock::on(&server, &["run", "x", "--", "cat"]);
    holder.hear("acquired");
    let options = ["--user", "--map-root-user", "--time", "--fork", "--boottime", "1000000"];
    let exited = tree::unshared(&server, &options, &["run", "x", "--try", "--", "true"]).exit();
    exited.assert(75, &["x is held by "]);
    holder.exit().assert(0, &["released"]);
}

/// As in a container with a boot id of its own.
#[test]
fn another_boot_id_frees_no_lock() {
    let server = Server::start();
    let folder = Folder::new();
    let id = folder.path("id");
    fs::write(&id, "00000000-0000-4000-8000-000000000000\n").expect("the folder is there");
    let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
    let id = id.to_str().expect("it is UTF-8");
    let options = ["--user", "--map-root-user", "--mount", "sh", "-c", script, id];
    let try_run = ["run", "x", "--try", "--", "true"];
    let elsewhere = || tree::unshared(&server, &options, &try_run).exit();
    let mut holder = Rlock::on(&server, &["run", "x", "--", "cat"]);
    holder.hear("acquired");
    elsewhere().assert(69, &["count time by another clock"]);
    holder.exit().assert(0, &["released"]);
    Rlock::on(&server, &["acquire", "x", "--ttl", "10m"]).exit().assert(0, &["acquired"]);
    elsewhere().assert(75, &["x is held by "]); // no client has the file open
    Rlock::on(&server, &try_run).exit().assert(75, &["x is held by "]);
}

#[test]
fn unusable_file_is_69_with_a_remedy() {
    let folder = Folder::new();
    fs::write(folder.path("text"), "x".repeat(4096)).expect("the folder is there");
    fs::write(folder.path("file"), "").expect("the folder is there");
    for (path, said) in [
        (folder.path("text"), "this is no file of rlock's"),
        (folder.path("file/locks.db"), "choose another path"),
        ("/proc/locks.db".into(), "/proc"),
    ] {
        let url = format!("sqlite:{}", path.display());
        let exited = Rlock::start(&mut rlock(&["run", "x", "--url", &url, "--", "true"])).exit();
        exited.assert(69, &[said]);
    }
}
