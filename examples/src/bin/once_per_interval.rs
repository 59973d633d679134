//! A job that runs once per interval on one of several nodes whose clocks differ.
//!
//! `cargo run -p rlock-examples --bin once_per_interval`. It needs no server: the lock is in a temporary file, or in
//! the store at `RLOCK_URL`. The program starts three processes as nodes, and sets their clocks by the program `faketime`.
//! Each node begins the job when it is due on its own clock, and the job ends before it is due on the clock of the last
//! node. `hold_at_least` still keeps the lock taken, so that node does not run the job again. The program prints which
//! node ran the job in each interval.

use std::collections::BTreeMap;
use std::env;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use rlock::{LockOptions, SimpleLock};
use rlock_examples::Store;

const NODE: &str = "RLOCK_EXAMPLE_NODE";
const START: &str = "RLOCK_EXAMPLE_START";
const INTERVAL: Duration = Duration::from_secs(6);
const INTERVALS: u32 = 3;
const JOB: Duration = Duration::from_secs(1);
/// The seconds by which each clock is behind. The largest number is longer than the job.
const BEHIND: [u64; 3] = [0, 1, 2];
/// Longer than the clocks differ, and shorter than the interval.
const HOLD: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match env::var(NODE) {
        Ok(name) => node(&name).await,
        Err(_) => cluster(),
    }
}

async fn node(name: &str) -> anyhow::Result<()> {
    let client = rlock::connect(&env::var("RLOCK_URL")?).await?;
    let lock = SimpleLock::new("every-interval", &client)?;
    let options = LockOptions::new().ttl(INTERVAL).hold_at_least(HOLD);
    let start = UNIX_EPOCH + Duration::from_millis(env::var(START)?.parse()?);
    for interval in 0..INTERVALS {
        let due = start + INTERVAL * interval;
        tokio::time::sleep(due.duration_since(SystemTime::now()).unwrap_or_default()).await;
        let job = async {
            tokio::time::sleep(JOB).await;
            println!("interval {interval}: node {name}");
        };
        lock.try_run_with(options.clone(), job).await?;
    }
    println!("clock: {}", since_1970()?.as_millis());
    Ok(())
}

/// The time on the clock of this process.
fn since_1970() -> anyhow::Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

fn cluster() -> anyhow::Result<()> {
    let store = Store::open();
    let start = since_1970()? + Duration::from_secs(2);
    let mut nodes = Vec::new();
    for (number, behind) in BEHIND.into_iter().enumerate() {
        let mut command = Command::new("faketime");
        // Timers use the monotonic clock, which is right on every node.
        command.args(["-m", "--exclude-monotonic", "-f", &format!("-{behind}")]).arg(env::current_exe()?);
        command.env("RLOCK_URL", store.url()).env(NODE, number.to_string()).env(START, start.as_millis().to_string());
        let node = command.stdout(Stdio::piped()).spawn();
        nodes.push((node.context("install `faketime`, which sets the clocks of the nodes")?, behind));
    }
    let mut runs = BTreeMap::<String, Vec<String>>::new();
    for (node, behind) in nodes {
        let output = node.wait_with_output()?;
        let now = since_1970()?;
        ensure!(output.status.success(), "a node failed");
        for line in String::from_utf8(output.stdout)?.lines() {
            match line.split_once(": ").context("a node prints what it knows")? {
                ("clock", time) => {
                    let clock = Duration::from_millis(time.parse()?);
                    ensure!(clock + Duration::from_secs(behind) <= now, "`faketime` has not set the clock of a node");
                }
                (interval, node) => runs.entry(interval.to_owned()).or_default().push(node.to_owned()),
            }
        }
    }
    for (interval, nodes) in &runs {
        println!("{interval}: run by {}", nodes.join(" and "));
    }
    ensure!(runs.len() == 3 && runs.values().all(|nodes| nodes.len() == 1), "the job did not run once per interval");
    Ok(())
}
