//! A service of which one instance works at a time. The next instance takes over as soon as the first gets SIGTERM.
//!
//! `cargo run -p rlock-examples --bin guarded_service`. It needs no server: the lock is in a temporary file, or in the
//! store at `RLOCK_URL`. The program starts two processes of the service. Each answers by HTTP: a load balancer
//! requests `/ready`, which returns 200 while the instance holds the lock, and 503 otherwise. The instance with the
//! lock gets SIGTERM: it finishes its requests and releases the lock. The program prints which instance is ready, and
//! for how long none was.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use rlock::{Guard, LockOptions, SimpleLock};
use rlock_examples::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const INSTANCE: &str = "RLOCK_EXAMPLE_INSTANCE";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match env::var(INSTANCE) {
        Ok(_) => service().await,
        Err(_) => deployment(),
    }
}

/// The lock, once this instance has it.
type Leadership = Arc<OnceLock<Arc<Guard>>>;

async fn service() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let leadership = Leadership::default();
    let routes = Router::new().route("/ready", get(ready)).with_state(leadership.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let client = rlock::connect(&env::var("RLOCK_URL")?).await?;
    let lock = SimpleLock::new("critical-service", &client)?;
    // After a crash the service is unavailable for the TTL. A handover does not wait for it.
    let options = LockOptions::new().ttl(Duration::from_secs(60)).watchdog_interval(Duration::from_secs(15));
    let guard = tokio::select! {
        guard = lock.lock_with(options) => Arc::new(guard?),
        _ = terminate.recv() => return Ok(()), // an instance without the lock has nothing to release
    };
    leadership.get_or_init(|| guard.clone());
    tokio::select! {
        _ = terminate.recv() => {}
        reason = guard.lost() => eprintln!("the lock is lost: {reason}"),
    }
    // A real service finishes its requests here. Then the client releases all its locks at once.
    client.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

async fn ready(State(leadership): State<Leadership>) -> StatusCode {
    let is_held = leadership.get().is_some_and(|guard| guard.is_held());
    if is_held { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Runs two instances, and replaces one.
fn deployment() -> anyhow::Result<()> {
    let store = Store::open();
    let mut first = Instance::start("first", store.url())?;
    first.wait_until_ready()?;
    println!("{}: ready", first.name);
    let second = Instance::start("second", store.url())?;
    ensure!(!second.is_ready()?, "two instances work at a time");
    println!("{}: standing by", second.name);

    let pid = first.process.id();
    let stopped = Instant::now();
    ensure!(Command::new("kill").arg(pid.to_string()).status()?.success(), "no signal was sent");
    second.wait_until_ready()?;
    println!("{}: ready {:.0?} after the first was told to stop", second.name, stopped.elapsed());
    ensure!(first.process.wait()?.success(), "the first instance failed");
    ensure!(stopped.elapsed() < Duration::from_secs(5), "the handover waits for nothing");
    Ok(())
}

struct Instance {
    name: &'static str,
    process: Child,
    address: SocketAddr,
}

impl Instance {
    fn start(name: &'static str, url: &str) -> anyhow::Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .env("RLOCK_URL", url)
            .env(INSTANCE, name)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("it was asked for")?).read_line(&mut line)?;
        Ok(Self { name, process, address: line.trim().parse()? })
    }

    fn is_ready(&self) -> anyhow::Result<bool> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split(' ').nth(1) == Some("200"))
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.is_ready()? {
            ensure!(started.elapsed() < Duration::from_secs(10), "{} does not get ready", self.name);
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
    }
}
