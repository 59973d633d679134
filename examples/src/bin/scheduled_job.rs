//! A job that is due on every node at the same time, and runs on one of them.
//!
//! `cargo run -p rlock-examples --bin scheduled_job`. It needs no server: the lock is in a temporary file, or in the
//! store at `RLOCK_URL`. The program starts three processes as nodes and lets them begin together. It prints which node
//! ran the job, and that the others did not.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rlock::{LockOptions, SimpleLock};
use rlock_examples::Store;

const NODE: &str = "RLOCK_EXAMPLE_NODE";
const NODES: usize = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match env::var(NODE) {
        Ok(name) => node(&name).await,
        Err(_) => cluster(),
    }
}

/// Runs a node: it tries the lock when the job is due.
async fn node(name: &str) -> anyhow::Result<()> {
    let client = rlock::connect(&env::var("RLOCK_URL")?).await?;
    let lock = SimpleLock::new("scheduled-job", &client)?;
    // The TTL of an hour is the delay of the next run after a crash in the job. It does not limit the duration of the
    // job.
    let options = LockOptions::new().ttl(Duration::from_secs(3600)).watchdog_interval(Duration::from_secs(900));
    // A node whose clock is a minute behind finds the lock taken, though the job takes a second.
    let options = options.hold_at_least(Duration::from_secs(60));
    wait_for_line();
    let Some(guard) = lock.try_lock_with(options).await? else {
        println!("{name}: the job runs on another node");
        return Ok(());
    };
    println!("{name}: running the job with token {}", guard.token());
    wait_for_line(); // the job
    guard.unlock().await?;
    println!("{name}: done");
    Ok(())
}

fn wait_for_line() {
    let _line = std::io::stdin().lines().next();
}

/// Starts the nodes, and prints their output.
fn cluster() -> anyhow::Result<()> {
    let store = Store::open();
    let mut nodes = Vec::new();
    for number in 1..=NODES {
        let mut node = Command::new(env::current_exe()?)
            .env("RLOCK_URL", store.url())
            .env(NODE, format!("node {number}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(node.stdout.take().context("it was asked for")?).lines();
        nodes.push((node, lines));
    }
    for (node, _) in &mut nodes {
        tell(node)?;
    }
    let mut runs = 0;
    for (_, lines) in &mut nodes {
        let line = lines.next().context("a node has ended without a word")??;
        println!("{line}");
        runs += usize::from(line.contains("running the job"));
    }
    ensure!(runs == 1, "{runs} nodes run the job");
    for (node, lines) in &mut nodes {
        let _has_ended = tell(node);
        for line in lines {
            println!("{}", line?);
        }
        ensure!(node.wait()?.success(), "a node failed");
    }
    println!("the job ran on one node of {NODES}");
    Ok(())
}

fn tell(node: &mut Child) -> anyhow::Result<()> {
    let stdin = node.stdin.as_mut().context("it was asked for")?;
    writeln!(stdin, "go")?;
    Ok(stdin.flush()?)
}
