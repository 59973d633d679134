//! On Postgres.

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
#[path = "network.rs"]
mod network;
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

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use rlock_testkit::servers::{PgWire, Postgres as Server};

use crate::support::{Rlock, Store, rlock, until};

impl Store for Server {
    const SCHEME: &str = "postgres";

    #[cfg(any(feature = "bench", feature = "suite"))]
    fn left_in(&self, part: &str) -> Vec<String> {
        let rows_of = |table| format!("SELECT namespace FROM rlock.{table} WHERE strpos(namespace, '{part}') > 0");
        let rows = ["locks", "leases"].map(|table| self.query(&rows_of(table)));
        rows.into_iter().flatten().flatten().flatten().collect()
    }

    fn fresh_url(&self) -> String {
        let url = format!("{}?restart_grace=0s", self.url());
        let made = rlock(&["schema", "--create", "--url", &url]).status();
        assert!(made.expect("the system starts another process").success());
        url
    }
}

#[test]
fn tables_are_printed_or_made_at_a_url() {
    let printed = rlock(&["schema"]).output().expect("the system starts another process");
    assert_eq!(printed.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&printed.stdout).contains("CREATE TABLE IF NOT EXISTS \"rlock\".locks"));
    let made = rlock(&["schema", "--create"]).output().expect("the system starts another process");
    assert_eq!(made.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&made.stderr).contains("write postgres://"));
}

#[test]
fn printed_tables_are_the_needed_ones() {
    let server = Server::start();
    let url = format!("{}?restart_grace=0s&schema=locks&create=off", server.url());
    let run = || rlock(&["run", "x", "--url", &url, "--", "true"]).output().expect("the system starts another process");
    let missing = run();
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(69), "{said}");
    assert!(said.contains("create them by `rlock schema`"), "{said}");

    let printed = rlock(&["schema", "--url", &url]).output().expect("the system starts another process");
    assert_eq!(printed.status.code(), Some(0));
    server.query(&String::from_utf8(printed.stdout).expect("SQL is text"));
    assert_eq!(run().status.code(), Some(0));
}

#[test]
fn server_of_another_kind_is_69() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system has ports");
    let url = format!("postgres://user@{}/app", listener.local_addr().expect("it is bound"));
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut question = [0; 8];
            let _client_gone =
                client.read_exact(&mut question).and_then(|()| client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    let exited = Rlock::start(&mut rlock(&["run", "x", "--url", &url, "--", "true"])).exit();
    exited.assert(69, &["this is no Postgres server"]);
}

/// Many programs that wait for one lock may need more connections than the server has.
#[test]
fn run_waits_for_a_free_connection() {
    const CONNECTIONS: usize = 10;
    let server = Server::start_with(&["-c", "max_connections=10"]);
    let url = server.fresh_url();
    let mut others = Vec::new();
    while others.len() < CONNECTIONS {
        others.extend(PgWire::connect(server.url()).ok());
    }
    let mut run = Rlock::start(&mut rlock(&["run", "x", "--url", &url, "--wait", "60s", "--", "true"]));
    run.hear("the store does not answer");
    drop(others);
    run.exit().assert(0, &[]);
}

#[test]
fn waiters_leave_connections_to_other_programs() {
    const WAITERS: usize = 12;
    const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rlock'";
    let server = Server::start_with(&["-c", "max_connections=20"]);
    let url = server.fresh_url();
    let start = |program: &str, said: &str| {
        let mut running = Rlock::start(&mut rlock(&["run", "x", "--url", &url, "--", program]));
        running.hear(said);
        running
    };
    let holder = start("cat", "acquired");
    let waiters: Vec<_> = (0..WAITERS).map(|_| start("true", "waiting for x, held by")).collect();
    let mut other = until("a connection for another program", || PgWire::connect(server.url()).ok());
    until("one connection for each program", || {
        let rows = other.query(SESSIONS).expect("the server answers");
        let sessions: usize = rows[0][0].as_deref()?.parse().ok()?;
        (sessions <= WAITERS + 2).then_some(()) // those of the holder may overlap
    });
    holder.exit().assert(0, &["released"]);
    for waiter in waiters {
        waiter.exit().assert(0, &["released"]);
    }
}

#[test]
fn a_fresh_database_needs_no_step() {
    let server = Server::start();
    let url = format!("{}?restart_grace=0s", server.url());
    let ran = rlock(&["run", "x", "--url", &url, "--", "true"]).output().expect("the system starts another process");
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
}
