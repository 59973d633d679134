//! The metrics of rlock for Prometheus.
//!
//! `cargo run -p rlock-examples --bin prometheus` takes, waits for and loses some locks, and prints the metrics once.
//! `cargo run -p rlock-examples --bin prometheus -- 127.0.0.1:9464` also serves them at `/metrics` until Ctrl-C, for
//! the dashboard and the alerts in `dashboards/`. It needs no other server: the locks are in a temporary file, or in
//! the store at `RLOCK_URL`.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use rlock::{Client, LockOptions, SimpleLock};
use rlock_examples::Store;
use tokio::net::TcpListener;
use tokio::time::sleep;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Before the first client, because a client gets its metric handles only once.
    let exporter = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &[0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0])?
        .install_recorder()?;
    rlock::metrics::describe_metrics();

    let store = Store::open();
    let clients = [rlock::connect(store.url()).await?, rlock::connect(store.url()).await?];
    work(&clients).await?;
    let Some(address) = std::env::args().nth(1) else {
        print!("{}", exporter.render());
        return Ok(());
    };
    let listener = TcpListener::bind(&address).await?;
    println!("serving http://{}/metrics", listener.local_addr()?);
    tokio::select! {
        served = axum::serve(listener, routes(exporter)) => Ok(served?),
        ended = tokio::signal::ctrl_c() => Ok(ended?),
        failed = async { loop { if let Err(error) = work(&clients).await { break error } } } => Err(failed),
    }
}

fn routes(exporter: PrometheusHandle) -> Router {
    Router::new().route("/metrics", get(async move || exporter.render()))
}

/// Does work that changes every metric.
async fn work(clients: &[Client; 2]) -> anyhow::Result<()> {
    let options = LockOptions::new().ttl(Duration::from_secs(5)).watchdog_interval(Duration::from_millis(50));
    let locks = [SimpleLock::new("report", &clients[0])?, SimpleLock::new("report", &clients[1])?];
    let guard = locks[0].lock_with(options.clone()).await?;
    let waiting = tokio::spawn(async move { locks[1].lock_with(options).await });
    sleep(Duration::from_millis(200)).await;
    guard.unlock().await?;
    let guard = waiting.await??;
    clients[0].break_leases(guard.resource()).await?;
    println!("# lost: {}", guard.lost().await);
    Ok(())
}
