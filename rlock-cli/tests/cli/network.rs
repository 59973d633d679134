//! Stores on a network.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use nix::sys::signal::Signal;
use rlock_testkit::faults::{Proxy, Way};

use super::Server;
use super::tree::DAEMON;
use crate::support::{Folder, Observer, Process, Rlock, Store as _, rlock, unique, until, url};

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

/// The server accepts connections, and answers nothing.
#[test]
fn signal_ends_an_unanswered_connection_attempt() {
    const LIMIT: Duration = Duration::from_secs(3); // the attempt would take 5 s
    for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system has ports");
        silent.set_nonblocking(true).expect("the system can");
        let url = format!("{}://user:hunter2@{}", Server::SCHEME, silent.local_addr().expect("it is bound"));
        let running = Rlock::start(&mut rlock(&["run", "x", "--url", &url, "--", "echo", "ran"]));
        let _connection = until("a connection", || silent.accept().ok());
        running.signal(signal);
        let exited = running.exit_within(LIMIT);
        exited.assert(status, &[&format!("stopped by {signal} while waiting for x")]);
        assert_eq!(exited.signal.is_some(), signal == Signal::SIGINT);
        assert_eq!(exited.stdout, "");
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
