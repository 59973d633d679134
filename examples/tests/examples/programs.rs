//! Every example runs unchanged on every store, and its output shows what its documentation says.

use std::process::Command;

use rlock_testkit::servers::Redis;

/// Tests the examples by their names. The function of the same name checks the output of each.
macro_rules! on_every_store {
    ($($example:ident),* $(,)?) => {
        /// On a file, as without `RLOCK_URL`.
        mod sqlite {
            $(#[test] fn $example() {
                super::$example(&super::run(env!(concat!("CARGO_BIN_EXE_", stringify!($example))), None));
            })*
        }

        mod redis {
            $(#[test] fn $example() {
                let server = super::Redis::start();
                let url = format!("{}?restart_grace=0s", server.url());
                super::$example(&super::run(env!(concat!("CARGO_BIN_EXE_", stringify!($example))), Some(&url)));
            })*
        }

        #[cfg(feature = "etcd")]
        mod etcd {
            $(#[test] fn $example() {
                let server = rlock_testkit::servers::Etcd::start();
                let url = format!("{}?restart_grace=0s", server.url());
                super::$example(&super::run(env!(concat!("CARGO_BIN_EXE_", stringify!($example))), Some(&url)));
            })*
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[test] fn $example() {
                let server = rlock_testkit::servers::Postgres::start();
                let url = format!("{}?restart_grace=0s", server.url());
                super::make_tables(&url);
                super::$example(&super::run(env!(concat!("CARGO_BIN_EXE_", stringify!($example))), Some(&url)));
            })*
        }
    };
}

on_every_store! {
    alerting_callbacks,
    batch_that_resumes,
    blocking_workers,
    debug_logging,
    guarded_service,
    handed_over,
    leader_election,
    live_status,
    long_running_job,
    once_per_interval,
    prometheus,
    quickstart,
    retry_with_recovery,
    scheduled_job,
    stale_token,
    transfer,
    waiting_process,
    watched_queue,
}

fn run(program: &str, url: Option<&str>) -> String {
    let mut command = Command::new(program);
    command.env_remove("RLOCK_URL").env_remove("RUST_LOG").envs(url.map(|url| ("RLOCK_URL", url)));
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program}: {}\n{out}{err}", output.status);
    out.into_owned()
}

#[cfg(feature = "postgres")]
fn make_tables(url: &str) {
    use rlock::postgres::{PostgresBackend, PostgresConfig};

    let config = PostgresConfig::from_url(url).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(PostgresBackend::ensure_schema(&config)).unwrap();
}

/// Fails unless `out` contains `lines` in this order.
fn in_order(out: &str, lines: &[&str]) {
    let at: Vec<usize> =
        lines.iter().map(|line| out.find(line).unwrap_or_else(|| panic!("no {line:?}:\n{out}"))).collect();
    assert!(at.is_sorted(), "{lines:?}:\n{out}");
}

fn alerting_callbacks(out: &str) {
    in_order(out, &["WARNING the watchdog of", "OK extended again", "CRITICAL the lock is lost: its deadline passed"]);
    assert_eq!(out.matches("WARNING").count(), 2, "{out}");
}

fn batch_that_resumes(out: &str) {
    in_order(
        out,
        &[
            "begins at batch 1",
            "batch 3 is done",
            "batch 4 was dropped",
            "begins at batch 4",
            "batch 4 is done",
            "each once",
        ],
    );
}

fn blocking_workers(out: &str) {
    assert_eq!(out.matches(": done\n").count(), 6, "{out}");
    assert!(out.ends_with("at most 2 worked at a time\n"), "{out}");
}

fn debug_logging(out: &str) {
    in_order(out, &["acquired the lock", "extended the lock"]);
    assert!(out.contains("nightly-report"), "{out}");
}

fn guarded_service(out: &str) {
    in_order(out, &["first: ready", "second: standing by", "second: ready ", "second: ready again"]);
}

fn handed_over(out: &str) {
    in_order(out, &["first: took the lock", "second: continues", "first: takes the lock again"]);
    let tokens: Vec<u64> = out.lines().filter_map(|line| line.split_once("with token ")?.1.parse().ok()).collect();
    assert!(matches!(*tokens, [first, second, next] if first == second && second < next), "{out}");
}

fn leader_election(out: &str) {
    in_order(
        out,
        &[
            "answered by first\n",
            "answered by first, asked by second\n",
            "the first instance is killed",
            "answered by second\n",
            "a request for an earlier leader is refused",
        ],
    );
}

fn live_status(out: &str) {
    in_order(
        out,
        &[
            "report is held by ",
            "(status page) with token ",
            "watchdog of report: running true",
            "3 active",
            "locks: 3 acquired, 3 released, 0 lost, 0 held",
        ],
    );
}

fn long_running_job(out: &str) {
    assert!(out.contains("batch 6 is done") && out.ends_with(", 0 failed\n"), "{out}");
}

fn once_per_interval(out: &str) {
    in_order(out, &["interval 0: run by node ", "interval 1: run by node ", "interval 2: run by node "]);
    assert!(!out.contains(" and "), "{out}");
}

fn prometheus(out: &str) {
    for sample in [
        "rlock_lost_total{backend=",
        "rlock_extends_total{backend=",
        "# HELP rlock_held ",
        "rlock_acquire_duration_seconds_bucket{",
    ] {
        assert!(out.contains(sample), "no {sample}:\n{out}");
    }
}

fn quickstart(out: &str) {
    assert!(out.contains("held with token") && out.ends_with("released\n"), "{out}");
}

fn retry_with_recovery(out: &str) {
    in_order(
        out,
        &["attempt 1: the lock on", "attempt 2: the lock on", "attempt 3: the work failed", "attempt 4: done"],
    );
}

fn scheduled_job(out: &str) {
    assert_eq!(out.matches("the job runs on another node").count(), 2, "{out}");
    assert!(out.ends_with("the job ran on one node of 3\n"), "{out}");
}

fn stale_token(out: &str) {
    assert!(out.contains("wakes up and is rejected"), "{out}");
}

fn transfer(out: &str) {
    assert!(out.ends_with("balances: 920 and 1080, 2000 together\n"), "{out}");
}

fn waiting_process(out: &str) {
    in_order(out, &["first: working", "second: waiting", "first: done, 1 waits", "second: my turn"]);
}

fn watched_queue(out: &str) {
    in_order(
        out,
        &[
            "watcher: 0 hold, 0 wait",
            "watcher: 1 hold, 0 wait",
            "waiter 1: ",
            "waiter 2: ",
            "watcher: 1 hold, 2 wait",
            "takes no new lock, and its work goes on: true",
            "ended its work and stopped",
        ],
    );
    assert!(out.ends_with("watcher: 0 hold, 0 wait\n"), "{out}");
}

/// Runs on its own custom store.
#[test]
fn custom_backend() {
    let out = run(env!("CARGO_BIN_EXE_custom_backend"), None);
    let lines: Vec<&str> = out.lines().collect();
    let (last, turns) = lines.split_last().unwrap();
    for turn in turns.chunks(2) {
        let (worker, _) = turn[0].split_once(": my turn").unwrap_or_else(|| panic!("{out}"));
        assert!(turn[1].starts_with(&format!("{worker}: done")), "two at a time: {out}");
    }
    assert_eq!((turns.len(), *last), (12, "all turns are over, 0 keys are left in the store"), "{out}");
}
