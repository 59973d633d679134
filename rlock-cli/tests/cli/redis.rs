//! On Redis.

#[path = "exit.rs"]
mod exit;
#[path = "kinds.rs"]
mod kinds;
#[path = "loss.rs"]
mod loss;
#[path = "manage.rs"]
mod manage;
#[path = "network.rs"]
mod network;
#[path = "run.rs"]
mod run;
#[path = "show.rs"]
mod show;
#[path = "signals.rs"]
mod signals;
#[path = "terminal.rs"]
mod terminal;

use rlock_testkit::servers::Redis as Server;

use crate::support::{Folder, Rlock, Store, rlock, unique};

impl Store for Server {
    const SCHEME: &str = "redis";
    const SHORT_TTL: &str = "300ms";

    fn fresh_url(&self) -> String {
        format!("{}?restart_grace=0s", self.url())
    }
}

#[test]
fn a_wrong_password_is_69() {
    let server = Server::start_durable();
    server.resp().command(&["CONFIG", "SET", "requirepass", "right"]);
    let url = server.url().replace("redis://", "redis://:hunter2@");
    let exited = Rlock::start(&mut rlock(&["run", "x", "--url", &url, "--", "true"])).exit();
    exited.assert(69, &["check the user and the password in the URL"]);
    assert!(!exited.stderr.contains("hunter2"), "{}", exited.stderr);
    let url = server.url().replace("redis://", "redis://:right@");
    Rlock::start(&mut rlock(&["run", "x", "--url", &url, "--", "true"])).exit().assert(0, &[]);
}

#[test]
fn a_loss_that_shows_only_at_the_release_is_a_loss() {
    let server = Server::start_durable();
    let folder = Folder::new();
    let name = unique("unnoticed");
    let script = folder.script("echo > $D/ready; cat");
    let running = Rlock::run_script(&server, &name, &["--ttl", "1h"], &script);
    folder.wait_for("ready", 1);
    server.resp().command(&["FLUSHALL"]);
    running.exit().assert(76, &["was lost", "the program had ended by itself (exit status: 0)"]);
}
