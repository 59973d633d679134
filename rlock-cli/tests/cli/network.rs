//! Stores on a network.

use rlock_testkit::faults::{Proxy, Way};

use super::Server;
use super::tree::DAEMON;
use crate::support::{Folder, Observer, Process, Rlock, Store as _, rlock, unique, url};

#[test]
fn a_store_that_is_down_is_69() {
    let scheme = Server::SCHEME;
    let url = format!("{scheme}://user:hunter2@127.0.0.1:1");
    let run = ["run", "x", "--url", &url];
    let (once, patient) = ([&run[..], &["--", "true"]].concat(), [&run[..], &["--wait", "1s", "--", "true"]].concat());
    for arguments in [&once[..], &patient, &["show", "x", "--url", &url]] {
        let exited = Rlock::start(&mut rlock(arguments)).exit();
        exited.assert(69, &[&format!("{scheme}://127.0.0.1:1"), "is the server running?"]);
        assert!(!exited.stderr.contains("hunter2"), "{}", exited.stderr);
    }
}

#[test]
fn a_port_that_is_none_is_64() {
    let url = format!("{}://u:hunter2@h:port", Server::SCHEME);
    let exited = Rlock::start(&mut rlock(&["show", "x", "--url", &url])).exit();
    exited.assert(64, &["port"]);
    assert!(!exited.stderr.contains("hunter2"), "{}", exited.stderr);
}

#[test]
fn next_starts_after_a_lost_program_ends() {
    let server = Server::start_durable();
    let proxy = Proxy::in_front_of(&url(&server));
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("successor");
    let ends = "trap 'echo first ends >> $D/log; exit' TERM; echo > $D/ready; while :; do sleep 0.01; done";
    let script = folder.script(&format!("{DAEMON} timeout 600 sh -c 'echo $$ > '$D/limited'; sleep 600' & {ends}"));
    let options = ["--ttl", "4s", "--url", proxy.url()];
    let mut first = Rlock::run_script(&server, &name, &options, &script);
    folder.wait_for("ready", 1);
    let tree = ["daemon", "limited"].map(|file| folder.wait_for_process(file));
    let mut second =
        Rlock::run_script(&server, &name, &["--ttl", "4s"], &folder.script("echo second starts >> $D/log"));
    observer.wait_for_queue(&name, 1);
    proxy.lose(Way::Both);
    second.hear("acquired");
    assert!(!tree.iter().any(Process::is_alive));
    first.hear("was lost");
    first.exit().assert(76, &[]);
    second.exit().assert(0, &["released"]);
    assert_eq!(folder.read("log"), "first ends\nsecond starts\n");
}
