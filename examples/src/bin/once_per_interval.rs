//! A job that runs once per interval on one of several nodes whose clocks differ.
//!
//! `cargo run -p rlock-examples --bin once_per_interval`. It needs no server: the lock is in a temporary file, or in
//! the store at `RLOCK_URL`. The program starts three processes as nodes. Each begins the job when it is due on its own
//! clock, and the job ends before it is due on the clock of the last node. `hold_at_least` still keeps the lock taken,
//! so the node with the slow clock does not run the job again. The program prints which node ran the job in each
//! interval.

use std::collections::BTreeMap;
use std::env;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use rlock::{LockOptions, SimpleLock};
use rlock_examples::Store;

const NODE: &str = "RLOCK_EXAMPLE_NODE";
const START: &str = "RLOCK_EXAMPLE_START";
const INTERVAL: Duration = Duration::from_secs(4);
const INTERVALS: u32 = 3;
/// The delay of each clock. The largest delay is longer than the job.
const SLOW: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_millis(500)];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match env::var(NODE) {
        Ok(number) => node(number.parse()?).await,
        Err(_) => cluster(),
    }
}

async fn node(number: usize) -> anyhow::Result<()> {
    let client = rlock::connect(&env::var("RLOCK_URL")?).await?;
    let lock = SimpleLock::new("every-interval", &client)?;
    // Longer than the difference of the clocks, and shorter than the interval by more than that difference.
    let options = LockOptions::new().ttl(INTERVAL).hold_at_least(INTERVAL / 2);
    let start = UNIX_EPOCH + Duration::from_millis(env::var(START)?.parse()?);
    for interval in 0..INTERVALS {
        let due = start + INTERVAL * interval + SLOW[number];
        tokio::time::sleep(due.duration_since(SystemTime::now()).unwrap_or_default()).await;
        let job = async { println!("interval {interval}: node {number}") };
        lock.try_run_with(options.clone(), job).await?;
    }
    Ok(())
}

fn cluster() -> anyhow::Result<()> {
    let store = Store::open();
    let start = SystemTime::now().duration_since(UNIX_EPOCH)? + Duration::from_secs(2);
    let nodes: Vec<_> = (0..SLOW.len())
        .map(|number| {
            let mut command = Command::new(env::current_exe()?);
            command.env("RLOCK_URL", store.url()).env(NODE, number.to_string());
            command.env(START, start.as_millis().to_string()).stdout(Stdio::piped()).spawn()
        })
        .collect::<Result<_, _>>()?;
    let mut runs = BTreeMap::<String, Vec<String>>::new();
    for node in nodes {
        let output = node.wait_with_output()?;
        ensure!(output.status.success(), "a node failed");
        for line in String::from_utf8(output.stdout)?.lines() {
            let (interval, node) = line.split_once(": ").unwrap_or((line, ""));
            runs.entry(interval.to_owned()).or_default().push(node.to_owned());
        }
    }
    for (interval, nodes) in &runs {
        println!("{interval}: run by {}", nodes.join(" and "));
    }
    ensure!(runs.len() == 3 && runs.values().all(|nodes| nodes.len() == 1), "the job did not run once per interval");
    Ok(())
}
