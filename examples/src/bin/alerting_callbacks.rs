//! Callbacks of the watchdog that alert: a warning when extensions fail, the all-clear when they succeed again, and the
//! end of the work when the lock is lost.
//!
//! `cargo run -p rlock-examples --bin alerting_callbacks`. It needs no server: the lock is in a temporary file, or in
//! the store at `RLOCK_URL`. The network to the store fails twice: once for a while, which causes only a warning, and
//! once permanently.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use rlock::{Client, LockOptions, LossReason, SimpleLock, WatchdogConfig};
use rlock_examples::Store;
use rlock_testkit::faults::{Fault, Faults, Faulty, Verb};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const TTL: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Store::open();
    let network = Faults::none();
    let (url, faults) = (store.url().to_owned(), network.clone());
    let connect = async move { rlock::backend::open(&url, None).await.map(|backend| Faulty::new(backend, faults)) };
    let client = Client::builder().connect(connect).await?;

    let lock = SimpleLock::new("guarded", &client)?;
    let guard = lock.lock_with(LockOptions::new().ttl(TTL).watchdog(false)).await?;
    let (pager, mut pages) = unbounded_channel();
    let is_alerted = Arc::new(AtomicBool::new(false));
    let config = WatchdogConfig { interval: Some(TTL / 20), max_failures: 100, ..WatchdogConfig::new() }
        .on_failure({
            let (pager, is_alerted) = (pager.clone(), is_alerted.clone());
            move |failure| {
                // The watchdog calls this for each failure, but the engineer on call wants one page.
                if !is_alerted.swap(true, Ordering::Relaxed) {
                    let _no_listener = pager.send(format!("WARNING {failure}"));
                }
                if !failure.cause.is_transient() {
                    let _no_listener = pager.send("CRITICAL it does not pass by itself".into());
                }
            }
        })
        .on_success(move || {
            if is_alerted.swap(false, Ordering::Relaxed) {
                let _no_listener = pager.send("OK extended again".into());
            }
        });
    guard.start_watchdog(config)?;

    network.all(Verb::Extend, Fault::DropRequest);
    print_up_to("WARNING", &mut pages).await?;
    network.clear();
    print_up_to("OK", &mut pages).await?;
    ensure!(guard.is_held(), "a short outage loses no lock");

    network.all(Verb::Extend, Fault::DropRequest);
    print_up_to("WARNING", &mut pages).await?;
    // The work ends by the deadline, even if the store hangs: no other client gets the lock before.
    let reason = guard.lost().await;
    println!("CRITICAL the lock is lost: {reason}; the work was stopped");
    ensure!(reason == LossReason::Expired, "{reason}");
    Ok(())
}

/// Prints the pages for the engineer on call, up to the one with this beginning.
async fn print_up_to(beginning: &str, pages: &mut UnboundedReceiver<String>) -> anyhow::Result<()> {
    while let Some(page) = pages.recv().await {
        println!("{page}");
        if page.starts_with(beginning) {
            return Ok(());
        }
    }
    anyhow::bail!("the watchdog sends no more pages")
}
