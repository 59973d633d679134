//! A service of which one instance works at a time. The next instance takes over as soon as the first gets SIGTERM, and
//! an instance that loses its leadership campaigns again, also while the store is down.
//!
//! `cargo run -p rlock-examples --bin guarded_service`. It needs no server: the election is in a temporary file, or in
//! the store at `RLOCK_URL`. The program starts two processes of the service. Each answers by HTTP: a load balancer
//! requests `/ready`, which returns 200 and the token while the instance leads, and 503 otherwise. The leader gets
//! SIGTERM: it finishes its requests and resigns. Then an operator breaks the lock of the next leader. The program
//! prints which instance is ready, and for how long none was.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use rlock::{Election, Leadership, LockOptions, blocking};
use rlock_examples::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const INSTANCE: &str = "RLOCK_EXAMPLE_INSTANCE";
const ELECTION: &str = "critical-service";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match env::var(INSTANCE) {
        Ok(_) => service().await,
        Err(_) => deployment(),
    }
}

/// The leadership of this instance, while it has one.
type Current = Arc<Mutex<Option<Leadership>>>;

async fn service() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let current = Current::default();
    let routes = Router::new().route("/ready", get(ready)).with_state(current.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    println!("{address}");
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let client = rlock::connect(&env::var("RLOCK_URL")?).await?;
    let election = Election::new(ELECTION, &client)?;
    // After a crash the service is unavailable for the TTL. A handover does not wait for it.
    let options = LockOptions::new().ttl(Duration::from_secs(60)).watchdog_interval(Duration::from_secs(15));
    loop {
        let campaign = tokio::select! {
            campaign = election.campaign_with(address.clone(), options.clone()) => campaign,
            _ = terminate.recv() => break,
        };
        let leadership = match campaign {
            Err(error) if error.is_unavailable() => {
                eprintln!("the campaign goes on: {error}"); // it has retried for some seconds
                continue;
            }
            campaign => campaign?,
        };
        let lost = leadership.lost();
        *current.lock().expect("no panic") = Some(leadership);
        tokio::select! {
            _ = terminate.recv() => break,
            reason = lost => eprintln!("the leadership is lost, and the campaign begins again: {reason}"),
        }
        *current.lock().expect("no panic") = None;
    }
    // A real service finishes its requests here. Then the client releases all its locks at once.
    client.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

async fn ready(State(current): State<Current>) -> Result<String, StatusCode> {
    let current = current.lock().expect("no panic");
    match current.as_ref() {
        Some(leadership) if leadership.is_leader() => Ok(leadership.token().to_string()),
        _ => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// Runs two instances, replaces one, and breaks the lock of the other.
fn deployment() -> anyhow::Result<()> {
    let store = Store::open();
    let mut first = Instance::start("first", store.url())?;
    let token = first.wait_until_ready(0)?;
    println!("{}: ready", first.name);
    let second = Instance::start("second", store.url())?;
    ensure!(second.token()?.is_none(), "two instances work at a time");
    println!("{}: standing by", second.name);

    let pid = first.process.id();
    let stopped = Instant::now();
    ensure!(Command::new("kill").arg(pid.to_string()).status()?.success(), "no signal was sent");
    let token = second.wait_until_ready(token)?;
    println!("{}: ready {:.0?} after the first got SIGTERM", second.name, stopped.elapsed());
    ensure!(first.process.wait()?.success(), "the first instance failed");
    ensure!(stopped.elapsed() < Duration::from_secs(5), "the handover waits for nothing");

    blocking::connect(store.url())?.break_leases(ELECTION)?;
    second.wait_until_ready(token)?;
    println!("{}: ready again after the break of its lock", second.name);
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

    /// The token with which this instance leads; `None` if it is not ready.
    fn token(&self) -> anyhow::Result<Option<u64>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
        Ok(if head.split(' ').nth(1) == Some("200") { Some(body.parse()?) } else { None })
    }

    /// Waits until this instance leads with a token greater than `last`, and returns the token.
    fn wait_until_ready(&self, last: u64) -> anyhow::Result<u64> {
        let started = Instant::now();
        loop {
            if let Some(token) = self.token()?.filter(|token| *token > last) {
                return Ok(token);
            }
            ensure!(started.elapsed() < Duration::from_secs(30), "{} does not get ready", self.name);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
    }
}
