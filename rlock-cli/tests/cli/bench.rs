//! `rlock bench`: its benchmarks, its refusals, its end by Ctrl-C, and the clean-up of the store.

use std::time::Duration;

use nix::sys::signal::Signal;
use rlock_testkit::faults::Control as _;
use serde_json::Value;

use super::Server;
use crate::support::{Rlock, Store, rlock, url, wait_for};

/// Each benchmark with the fields that at least one of its rows has, beside the common ones.
const BENCHMARKS: [(&str, &[&str]); 9] = [
    ("round-trip", &["p50_us", "p99_us", "per_second"]),
    ("pair", &["p50_us", "p99_us", "per_second"]),
    ("cycle", &["p50_us", "p99_us", "per_second", "ratio"]),
    ("cpu", &["client_cpu_us", "client_cpu_ratio"]),
    ("hand-over", &["p50_us", "p99_us", "ratio"]),
    ("queue", &["p50_us", "p99_us", "per_second", "ratio"]),
    ("contention", &["p50_us", "p99_us", "per_second", "requests_per_turn"]),
    (
        "renewal",
        &[
            "client_core_percent",
            "worst_lag_us",
            "lost",
            "per_second",
            "store_bytes_per_lease",
            "store_bytes_per_idle_name",
        ],
    ),
    ("drift", &["p50_us", "p99_us", "per_second", "ratio", "first_per_second", "bare_ratio", "cycles_before"]),
];

const SHORT: [&str; 15] = [
    "bench",
    "--seconds",
    "0.02",
    "--tasks",
    "1",
    "--tasks",
    "8",
    "--leases",
    "100",
    "--waiters",
    "20",
    "--ttl",
    "2s",
    "--drift-cycles",
    "256",
];

/// The limit for a benchmark while other tests keep the processors and the disk busy.
const LONGEST: Duration = Duration::from_secs(120);

fn bench(server: &Server, more: &[&str]) -> Rlock {
    Rlock::on(server, &[&SHORT[..], more].concat())
}

#[test]
fn every_benchmark_has_its_fields_in_json() {
    let server = Server::start_durable();
    for (benchmark, fields) in BENCHMARKS {
        let exited = bench(&server, &["--json", "--only", benchmark]).exit_within(LONGEST);
        exited.assert(0, &[]);
        let rows: Vec<Value> =
            exited.stdout.lines().map(|row| serde_json::from_str(row).expect("a row is JSON")).collect();
        assert!(rows.iter().all(|row| row["what"].is_string() && row["tasks"].is_u64()), "{}", exited.stdout);
        let is_whole =
            |row: &Value| row["benchmark"] == benchmark && fields.iter().all(|&field| row[field].is_number());
        assert!(rows.iter().any(is_whole), "{benchmark} lacks one of {fields:?}: {}", exited.stdout);
    }
    assert_eq!(server.left_by_bench(), Vec::<String>::new());
}

#[test]
fn table_has_the_chosen_benchmarks_alone() {
    let server = Server::start_durable();
    let exited = bench(&server, &["--only", "round-trip", "--only", "contention"]).exit_within(LONGEST);
    exited.assert(0, &[]);
    let lines: Vec<_> = exited.stdout.lines().collect();
    assert!(lines[0].ends_with("ratio"), "{}", exited.stdout);
    assert!(lines.iter().any(|line| line.starts_with("round trip ")), "{}", exited.stdout);
    assert!(lines.iter().any(|line| line.starts_with("one name, 8 clients ")), "{}", exited.stdout);
    assert!(!exited.stdout.contains("lock + unlock"), "{}", exited.stdout);
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{}", exited.stdout);
}

#[test]
fn unknown_benchmark_is_refused_with_all_names() {
    let server = Server::start_durable();
    let exited = bench(&server, &["--only", "speed"]).exit();
    exited.assert(64, &["speed"]);
    for (benchmark, _) in BENCHMARKS {
        assert!(exited.stderr.contains(benchmark), "{}", exited.stderr);
    }
}

#[test]
fn ctrl_c_keeps_rows_and_leaves_nothing() {
    let server = Server::start_durable();
    let arguments = [
        "bench",
        "--seconds",
        "0.02",
        "--tasks",
        "1",
        "--tasks",
        "8",
        "--only",
        "round-trip",
        "--only",
        "drift",
        "--drift-cycles",
        "99999999",
    ];
    let running = Rlock::on(&server, &arguments);
    let printed = running.hear_printed("round trip ");
    running.signal(Signal::SIGINT);
    let exited = running.exit();
    exited.assert(130, &[]);
    assert!(exited.stdout.contains(&printed), "{}", exited.stdout);
    assert!(!exited.stdout.contains("cycles after"), "{}", exited.stdout);
    assert_eq!(server.left_by_bench(), Vec::<String>::new());
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_written_end_the_run() {
    let server = Server::start_durable();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let arguments = ["bench", "--only", "round-trip", "--only", "drift", "--drift-cycles", "99999999"];
    let output = rlock(&arguments).env("RLOCK_URL", url(&server)).stdout(full).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(128 + Signal::SIGPIPE as i32), "{stderr}");
    assert!(stderr.contains("cannot write the results"), "{stderr}");
    assert_eq!(server.left_by_bench(), Vec::<String>::new());
}

#[test]
fn second_signal_ends_the_clean_up() {
    let server = Server::start_durable();
    let arguments =
        ["bench", "--seconds", "0.02", "--only", "round-trip", "--only", "drift", "--drift-cycles", "99999999"];
    let mut running = Rlock::on(&server, &arguments);
    running.hear_printed("round trip ");
    wait_for(server.pause());
    running.signal(Signal::SIGINT);
    running.hear("removing the namespace rlock-bench-");
    running.signal(Signal::SIGTERM);
    running.exit_within(Duration::from_secs(5)).assert(130, &["the namespace rlock-bench-", "was not removed"]);
    wait_for(server.resume());
}

#[cfg(target_os = "linux")]
#[test]
fn wrong_server_process_is_refused_before_connecting() {
    let exited = Rlock::start(&mut rlock(&["bench", "--server-pid", "4294967295", "sqlite:/proc/locks.db"])).exit();
    exited.assert(64, &["there is no process 4294967295"]);
}

#[test]
fn store_out_of_reach_is_69() {
    let url = match Server::SCHEME {
        "sqlite" => "sqlite:/proc/locks.db".to_owned(),
        scheme => format!("{scheme}://127.0.0.1:1"),
    };
    let exited = Rlock::start(&mut rlock(&["bench", &url])).exit();
    exited.assert(69, &["connect on "]);
    assert_eq!(exited.stdout, "");
}
