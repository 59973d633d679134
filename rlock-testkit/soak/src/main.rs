//! Processes contend for locks on one store while faults happen. Afterwards their history is checked.
//!
//! ```text
//! cargo run -p rlock-soak -- --url redis: --processes 8 --minutes 5 --faults all --seed 7
//! ```

mod store;
mod table;
mod victims;
mod watchdog;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rlock::{Client, connect};
use rlock_testkit::contest::{Arena, Mishap, Outcome, UnknownMishap, Workload, run_contender};
use rlock_testkit::history::Counts;
use rlock_testkit::process::{Helper, Program};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::store::{Store, Victim};

/// Time limit for the store to accept a client, less than the arena waits for its process.
const CONNECTED_WITHIN: Duration = Duration::from_secs(20);

const COVERED: &str =
    "primaries that were cut off granted locks as their successors did; the tokens protected every write";

/// Time limit for the end of a run. A fault whose server does not come back would keep it for ever.
const ENDS_WITHIN: Duration = Duration::from_secs(10 * 60);

/// Time limit for what cannot be cancelled: the check of the history, and the end of the servers.
const KILLED_AFTER: Duration = Duration::from_secs(20 * 60);

/// A run as long as this fails without one of its faults.
const ALL_HAPPEN_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Lets processes contend for locks while processes die and freeze, connections break, and the server is paused, is
/// killed and loses its data. Prints counts and a verdict; the exit status is 1 if a violation was found.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Options {
    /// The URL of the store. One of redis:, redis-user: (with only the documented rights), redis-cluster:,
    /// redis-sentinel:, etcd:, etcd-cluster:, postgres:, pgbouncer: and sqlite: starts a new store, which faults of the
    /// server need.
    #[arg(long, default_value = "redis:")]
    url: String,
    /// Number of processes, each of which wants three locks at a time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    processes: u32,
    /// Duration in minutes.
    #[arg(long, default_value_t = 5.0, value_parser = minutes)]
    minutes: f64,
    /// The TTL of the locks, as `500ms`, `2s`.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// The faults: `all`, `none`, or a list of process-killed, process-frozen, cut, stalled, half-open, slow,
    /// reordered, server-paused, server-killed, data-lost.
    #[arg(long, default_value = "all", value_delimiter = ',')]
    faults: Vec<String>,
    /// How late after its deadline a loss may be signalled. The default is a hundredth of the TTL, after which the
    /// store may grant the lock to another client.
    #[arg(long, value_parser = humantime::parse_duration)]
    late: Option<Duration>,
    /// How long a lock may have waiters and no holder while the store is up. The default is fifteen TTLs, at least 30 s.
    #[arg(long, value_parser = humantime::parse_duration)]
    unheld: Option<Duration>,
    /// Appends a row of counts to the Markdown table in this file.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Seed of all random choices; random by default.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let runtime = Runtime::new().expect("the system has threads");
    if let Some(helper) = Helper::current() {
        runtime.block_on(run_contender(helper, connected));
        return ExitCode::SUCCESS;
    }
    let outcome = runtime.block_on(soak(Options::parse())).unwrap_or_else(|problem| {
        eprintln!("soak: {problem}");
        ExitCode::from(2)
    });
    drop(runtime);
    watchdog::wait_if_over();
    outcome
}

/// Connects a client. Retries, because a pooler or a cluster refuses for a moment after a restart.
async fn connected(url: &str) -> Client {
    let begun = Instant::now();
    loop {
        match connect(url).await {
            Ok(client) => return client,
            Err(error) if begun.elapsed() > CONNECTED_WITHIN => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn soak(options: Options) -> Result<ExitCode, String> {
    let time = Duration::from_secs_f64(options.minutes * 60.0);
    watchdog::end_after(time + KILLED_AFTER);
    let seed = options.seed.unwrap_or_else(rand::random);
    let store = Store::open(&options.url).await?;
    let separator = if store.url().contains('?') { '&' } else { '?' };
    let mut url = format!("{}{separator}namespace=soak-{seed}", store.url());
    if !url.starts_with("sqlite:") {
        // As long as the TTL, so that there are never two holders, even after the loss of all data.
        url += &format!("&restart_grace={}ms", options.ttl.as_millis());
    }
    connect(&url).await.map_err(|error| error.to_string())?;

    let Options { processes, minutes, ttl, faults, table, .. } = options;
    let late = options.late.unwrap_or(ttl / 100);
    let unheld = options.unheld.unwrap_or_else(|| (ttl * 15).max(Duration::from_secs(30)));
    let workload = Workload { hold: ttl / 10, tasks: 3, mutexes: 3, ..Workload::mixed(ttl) };
    let victim = store.victim();
    let server = victim.as_ref().map(Victim::control);
    let arena = Arena::new(workload, Program::this_one(), &url, server, processes as usize, seed).await;
    let arena = if store.has_several_servers() { arena.behind(|url| store.proxied(url)) } else { arena };
    let arena = if store.may_split() { arena.with_split_pauses() } else { arena };
    let mishaps = mishaps(&faults, &store, &arena.possible())?;
    println!("{processes} processes for {minutes} minutes, TTL {ttl:?}, seed {seed}");
    let begun = Instant::now();
    let Ok(outcome) = timeout(time + ENDS_WITHIN, arena.run(time, &mishaps, late)).await else {
        return Err(format!("the run has not ended {ENDS_WITHIN:?} after its time"));
    };
    println!("after {:.0} s:", begun.elapsed().as_secs_f64());
    let covered = covered(&outcome.verdict.counts);
    print(&outcome);
    if let Some(file) = table {
        table::append(&file, store.name(), &outcome, covered)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let failures = failures(&outcome, covered, unheld, time);
    failures.iter().for_each(|failure| println!("{failure}"));
    if !failures.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    println!("{}", if covered == 0 { "nothing was wrong" } else { COVERED });
    Ok(ExitCode::SUCCESS)
}

/// The faults to inject; an error if one of them cannot happen to the store.
fn mishaps(names: &[String], store: &Store, possible: &[Mishap]) -> Result<Vec<Mishap>, String> {
    let is_allowed = |mishap: &Mishap| store.allows(*mishap) && possible.contains(mishap);
    let asked = match names {
        [all] if all == "all" && !store.is_theirs() => return Ok(Mishap::ALL.into_iter().filter(is_allowed).collect()),
        [all] if all == "all" => Mishap::ALL.to_vec(),
        [none] if none == "none" => Vec::new(),
        names => {
            names.iter().map(|name| name.parse()).collect::<Result<_, UnknownMishap>>().map_err(|e| e.to_string())?
        }
    };
    match asked.iter().find(|mishap| !is_allowed(mishap)) {
        Some(mishap) if store.is_theirs() && mishap.is_of_the_server() => Err(format!(
            "{mishap} needs a server that is the soak's own: have one started by --url redis:, etcd:, postgres: or pgbouncer:, \
             or name other --faults"
        )),
        Some(mishap) => Err(format!("{mishap} cannot happen to {}: name other --faults", store.url())),
        None => Ok(asked),
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes| (0.01..=10_000.0).contains(minutes));
    minutes.ok_or_else(|| "a number of minutes from 0.01 to 10000".to_owned())
}

fn print(Outcome { verdict, mishaps }: &Outcome) {
    let mishaps: Vec<String> = mishaps.iter().map(|(mishap, count)| format!("{count} {mishap}")).collect();
    println!("mishaps   {}", mishaps.join(", "));
    println!("{}", verdict.counts);
}

/// The number of overlaps between an old primary that was cut off and its successor. The tokens protect then. A promotion
/// alone causes none, because the grace is as long as the TTL.
fn covered(counts: &Counts) -> u64 {
    if counts.tokens_protect() { counts.in_splits } else { 0 }
}

/// The reasons why the run has failed.
fn failures(Outcome { verdict, mishaps }: &Outcome, covered: u64, unheld: Duration, time: Duration) -> Vec<String> {
    let counts = &verdict.counts;
    let mut failures = Vec::new();
    if let Some(violation) = verdict.violation.as_ref().filter(|_| counts.violations() > covered) {
        failures.push(violation.to_string());
    }
    if counts.acquisitions == 0 {
        failures.push("no process ever got a lock".to_owned());
    }
    if counts.worst_takeover > unheld {
        let unheld_for = counts.worst_takeover.as_secs_f64();
        failures.push(format!("a lock had waiters and no holder for {unheld_for:.1} s, more than {unheld:?}"));
    }
    if time >= ALL_HAPPEN_WITHIN {
        let missing = mishaps.iter().filter(|(_, count)| **count == 0);
        failures.extend(missing.map(|(mishap, _)| format!("{mishap} never happened")));
    }
    failures
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rlock_testkit::history::{Breach, Verdict, Violation};
    use rlock_testkit::peer::resource;

    use super::*;

    #[test]
    fn overlaps_outside_splits_fail_the_run() {
        const LIMIT: Duration = Duration::from_secs(30);
        let (resource, ops, overlap) = (resource("job"), Vec::new(), Duration::from_millis(1));
        let breach = Breach::Overlap { resource, ops, weight: 2, capacity: 1, overlap };
        let mut counts = Counts::default();
        counts.acquisitions = 9;
        counts.overlaps = 2;
        counts.in_splits = 2;
        let verdict = Verdict { counts, violation: Some(Violation { breach, story: Vec::new(), more: 1 }) };
        let mut outcome = Outcome { verdict, mishaps: BTreeMap::new() };
        let judged = |outcome: &Outcome| {
            let covered = covered(&outcome.verdict.counts);
            (covered, failures(outcome, covered, LIMIT, LIMIT).len())
        };
        assert_eq!(judged(&outcome), (2, 0));
        outcome.verdict.counts.overlaps = 3;
        assert_eq!(judged(&outcome), (2, 1));
        outcome.verdict.counts.wrong_tokens = 1;
        assert_eq!(judged(&outcome), (0, 1));
    }

    #[test]
    fn run_without_progress_or_faults_fails() {
        const LIMIT: Duration = Duration::from_secs(30);
        let mut counts = Counts::default();
        counts.worst_takeover = LIMIT + Duration::from_secs(1);
        let verdict = Verdict { counts, violation: None };
        let mishaps = BTreeMap::from([(Mishap::Cut, 0), (Mishap::Slow, 2)]);
        let mut outcome = Outcome { verdict, mishaps };
        assert_eq!(
            failures(&outcome, 0, LIMIT, ALL_HAPPEN_WITHIN),
            [
                "no process ever got a lock",
                "a lock had waiters and no holder for 31.0 s, more than 30s",
                "cut never happened"
            ]
        );
        outcome.verdict.counts.acquisitions = 1;
        outcome.verdict.counts.worst_takeover = LIMIT;
        assert!(failures(&outcome, 0, LIMIT, LIMIT).is_empty());
    }
}
