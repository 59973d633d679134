//! `rlock bench`: measures the locks of a store.

mod format;
mod json;
mod store;
mod table;

use std::future::poll_fn;
use std::io::{self, ErrorKind, Write as _};
use std::sync::Arc;
use std::task::Poll;

use nix::sys::signal::Signal;
use rlock_testkit::bench::{BenchError, Benchmark, Observer, Row, cpu, run};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::Notify;

use crate::args::BenchArgs;
use crate::exit::Exit;
use crate::report::{self, report};

use store::Store;

pub(crate) async fn bench(args: BenchArgs) -> Exit {
    let url = args.store.url();
    if let Some(pid) = args.server_pid.iter().find(|&&pid| cpu::of_tree(pid).is_none()) {
        report!("there is no process {pid} whose CPU time can be read: give the server's own id as --server-pid");
        return Exit::USAGE;
    }
    let store = match Store::connect(url).await {
        Ok(store) => store,
        Err(error) => {
            report!("{error}");
            return Exit::of_connect_error(&error);
        }
    };
    let mut plan = args.plan();
    if plan.servers.is_empty() {
        plan.servers = cpu::servers_of(url);
    }
    if cfg!(debug_assertions) {
        report!("this is a debug build of rlock, in which the client is several times slower than in a release build");
    }
    let benchmarks = args.benchmarks();
    let wants_server = benchmarks.iter().any(|benchmark| matches!(benchmark, Benchmark::Cpu | Benchmark::Renewal));
    if wants_server && plan.servers.is_empty() && url.contains("://") {
        let reason = if has_port(url) { ": a port in the URL has no process of this host" } else { "" };
        report!("the server's CPU time is not measured{reason} (--server-pid names the process of a server)");
    }
    let unwritten = Arc::new(Notify::new());
    let mut printer = Printer { is_json: args.json, is_begun: false, unwritten: unwritten.clone() };
    let mut signals = Signals::listen();
    let measured = tokio::select! {
        measured = run(&store, &plan, &benchmarks, &mut printer) => Ok(measured),
        signal = signals.next() => Err(signal),
        () = unwritten.notified() => Err(Signal::SIGPIPE), // like a program that writes to a pipe without a reader
    };
    report::clear();
    if measured.is_err() {
        report!("removing the namespace {}; another signal ends this", store.namespace());
    }
    let cleaned = tokio::select! {
        cleaned = store.clean_up() => cleaned,
        signal = signals.next() => {
            report!("the namespace {} was not removed", store.namespace());
            return Exit::of_signal(measured.err().unwrap_or(signal));
        }
    };
    let (measured, ended_by) = match measured {
        Ok(measured) => (measured, None),
        Err(signal) => (Ok(()), Some(signal)),
    };
    if let Err(error) = &cleaned {
        let namespace = store.namespace();
        report!("the namespace {namespace} was not removed, and its leases end by their TTL: {error}");
    }
    if let Err(error) = &measured {
        report!("{error}");
    }
    let failed = measured.and(cleaned).err();
    match (ended_by, failed) {
        (Some(signal), _) => Exit::of_signal(signal),
        (None, Some(error)) => status_of(&error),
        (None, None) => Exit::OK,
    }
}

/// Whether `url` names a port.
fn has_port(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let servers = authority.rsplit('@').next().unwrap_or_default().split(',');
    servers.filter_map(|server| server.rsplit_once(':')).any(|(_, port)| port.parse::<u16>().is_ok())
}

/// The signals that end the benchmark.
struct Signals([(Signal, Option<unix::Signal>); 3]);

impl Signals {
    fn listen() -> Self {
        let listen = |kind, name| (name, unix::signal(kind).ok());
        Self([
            listen(SignalKind::interrupt(), Signal::SIGINT),
            listen(SignalKind::terminate(), Signal::SIGTERM),
            listen(SignalKind::hangup(), Signal::SIGHUP),
        ])
    }

    /// The next signal.
    async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (name, signals) in &mut self.0 {
                if signals.as_mut().is_some_and(|signals| signals.poll_recv(context).is_ready()) {
                    return Poll::Ready(*name);
                }
            }
            Poll::Pending
        })
        .await
    }
}

fn status_of(error: &BenchError) -> Exit {
    match error {
        BenchError::Lock(error) => Exit::of_lock_error(error),
        _ => Exit::UNAVAILABLE,
    }
}

/// Prints each row at once, so that a run that is cut short keeps its rows.
struct Printer {
    is_json: bool,
    is_begun: bool,
    /// Wakes the benchmark when a row could not be written.
    unwritten: Arc<Notify>,
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
        if let Some(lost) = row.figures.iter().find(|figure| figure.name == "lost" && figure.value > 0.0) {
            report!("{} leases were lost: the store did not extend them in time", lost.value);
        }
        if let Err(error) = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
            if error.kind() != ErrorKind::BrokenPipe {
                report!("cannot write the results: {error}");
            }
            self.unwritten.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found_in_urls() {
        for url in ["redis://u:p@h:7000/2", "etcd://a,b:2379", "redis://[::1]:7000"] {
            assert!(has_port(url), "{url}");
        }
        for url in ["redis://h", "postgres:///app?host=/run", "redis://u:77@h", "redis://[::1]", "sqlite:/a:1"] {
            assert!(!has_port(url), "{url}");
        }
    }
}
