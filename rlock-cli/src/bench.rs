//! `rlock bench`: how fast a store is for locks, and where the time goes.

mod format;
mod json;
mod store;
mod table;

use std::io::{self, Write as _};

use nix::sys::signal::Signal;
use rlock_testkit::bench::{BenchError, Line, Observer, Plan, Row, cpu, run};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::BenchArgs;
use crate::exit::Exit;
use crate::report::{self, report};

use store::Store;

pub(crate) async fn bench(args: BenchArgs) -> Exit {
    let url = args.store.url();
    let store = match Store::connect(url).await {
        Ok(store) => store,
        Err(error) => {
            report!("{error}");
            return Exit::of_connect_error(&error);
        }
    };
    let plan = Plan { server: args.server_pid.or_else(|| cpu::server_of(url)), ..args.plan() };
    if let Some(pid) = args.server_pid.filter(|&pid| cpu::of_tree(pid).is_none()) {
        report!("there is no process {pid} whose CPU time can be read: give the server's own id as --server-pid");
        return Exit::USAGE;
    }
    if cfg!(debug_assertions) {
        report!("this is a debug build of rlock, in which the client is several times slower than in a release build");
    }
    let lines = args.lines();
    let wants_server = lines.iter().any(|line| matches!(line, Line::Cpu | Line::Renewal));
    if wants_server && plan.server.is_none() && url.contains("://") {
        report!(
            "the server's CPU time is not measured: no process of this host listens on the port in the URL (--server-pid)"
        );
    }
    let mut printer = Printer { is_json: args.json, is_begun: false };
    let measured = tokio::select! {
        measured = run(&store, &plan, &lines, &mut printer) => Ok(measured),
        signal = ended_by() => Err(signal),
    };
    report::clear();
    let cleaned = store.clean_up().await;
    match measured {
        Err(signal) => Exit::of_signal(signal),
        Ok(measured) => match measured.and(cleaned) {
            Ok(()) => Exit::OK,
            Err(error) => {
                report!("{error}");
                status_of(&error)
            }
        },
    }
}

/// Returns at a signal that ends a program.
async fn ended_by() -> Signal {
    let heard = async |kind: SignalKind, signal_is: Signal| {
        match signal(kind) {
            Ok(mut signals) => signals.recv().await,
            Err(_) => std::future::pending().await,
        };
        signal_is
    };
    tokio::select! {
        ended = heard(SignalKind::interrupt(), Signal::SIGINT) => ended,
        ended = heard(SignalKind::terminate(), Signal::SIGTERM) => ended,
        ended = heard(SignalKind::hangup(), Signal::SIGHUP) => ended,
    }
}

fn status_of(error: &BenchError) -> Exit {
    match error {
        BenchError::Lock(error) => Exit::of_lock_error(error),
        _ => Exit::UNAVAILABLE,
    }
}

/// Prints each row as soon as it is there, so that nothing is lost when the rest does not come.
struct Printer {
    is_json: bool,
    is_begun: bool,
}

impl Observer for Printer {
    fn begins(&mut self, what: &str) {
        report::pass(what);
    }

    fn row(&mut self, row: Row) {
        report::clear();
        report::flush(); // before anything else comes to the same terminal
        let mut text = String::new();
        if self.is_json {
            text.push_str(&json::line(&row));
        } else {
            if !self.is_begun {
                text.push_str(&table::head());
            }
            text.push_str(&table::row(&row));
        }
        self.is_begun = true;
        let _reader_gone = io::stdout().write_all(text.as_bytes());
    }
}
