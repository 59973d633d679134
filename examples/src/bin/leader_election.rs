//! A service whose followers forward requests to the leader.
//!
//! `cargo run -p rlock-examples --bin leader_election`. It needs no server: the election is in a temporary file, or in
//! the store at `RLOCK_URL`. The program starts two instances. Each answers by HTTP: the leader answers itself, and a
//! follower forwards the request to the leader, whose address it knows from the election. A forwarded request carries
//! the token of the leadership that the follower knows, and an instance that does not lead with that token refuses the
//! request. The program kills the first leader, and the other instance takes over. It prints which instance answered. A
//! candidate goes on while the store is down.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use futures_util::StreamExt as _;
use rlock::{Election, LockOptions, Observation};
use rlock_examples::Store;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const INSTANCE: &str = "RLOCK_EXAMPLE_INSTANCE";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match env::var(INSTANCE) {
        Ok(name) => service(name).await,
        Err(_) => deployment(),
    }
}

/// The election, as an instance knows it.
struct Node {
    name: String,
    /// The token with which this instance leads.
    leads_by: Mutex<Option<u64>>,
    /// The address and the token of the leader.
    leader: Mutex<Option<(String, u64)>>,
}

async fn service(name: String) -> anyhow::Result<()> {
    let node = Arc::new(Node { name, leads_by: Mutex::default(), leader: Mutex::default() });
    let routes = Router::new().route("/", get(answer)).route("/by/{token}", get(forwarded)).with_state(node.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    println!("{address}");
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let client = rlock::connect(&env::var("RLOCK_URL")?).await?;
    let election = Election::new("orders", &client)?;
    tokio::spawn(follow(election.clone(), node.clone()));
    // After a crash the service has no leader for the TTL.
    let options = LockOptions::new().ttl(Duration::from_secs(2));
    loop {
        let leadership = match election.campaign_with(address.clone(), options.clone()).await {
            Err(error) if error.is_unavailable() => {
                eprintln!("the campaign of {} goes on: {error}", node.name); // it has retried for some seconds
                continue;
            }
            campaign => campaign?,
        };
        *node.leads_by.lock().expect("no panic") = Some(leadership.token().get());
        let reason = leadership.lost().await;
        *node.leads_by.lock().expect("no panic") = None;
        eprintln!("{} leads no more: {reason}", node.name);
    }
}

/// Keeps the address and the token of the leader up to date.
async fn follow(election: Election, node: Arc<Node>) {
    let mut observed = election.observe();
    while let Some(observation) = observed.next().await {
        let leader = match observation {
            Observation::Led(leader) => leader.data.map(|data| (data.to_text(), leader.token.get())),
            _ => None, // vacant or unknown
        };
        *node.leader.lock().expect("no panic") = leader;
    }
}

async fn answer(State(node): State<Arc<Node>>) -> Result<String, StatusCode> {
    if node.leads_by.lock().expect("no panic").is_some() {
        return Ok(format!("answered by {}", node.name));
    }
    let leader = node.leader.lock().expect("no panic").clone();
    let (address, token) = leader.ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    let text = ask(&address, &format!("/by/{token}")).await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(StatusCode::BAD_GATEWAY)?;
    if !head.contains(" 200 ") {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    Ok(format!("{body}, asked by {}", node.name))
}

async fn forwarded(State(node): State<Arc<Node>>, Path(token): Path<u64>) -> Result<String, StatusCode> {
    let leads_by = *node.leads_by.lock().expect("no panic");
    if leads_by == Some(token) { Ok(format!("answered by {}", node.name)) } else { Err(StatusCode::CONFLICT) }
}

async fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Runs two instances, and kills the leader.
fn deployment() -> anyhow::Result<()> {
    let store = Store::open();
    let first = Instance::start("first", store.url())?;
    println!("{}", first.answer("answered by first")?);
    let second = Instance::start("second", store.url())?;
    println!("{}", second.answer("answered by first, asked by second")?);
    drop(first);
    println!("the first instance is killed");
    println!("{}", second.answer("answered by second")?);
    let (head, _) = second.get("/by/0")?; // every token is greater
    ensure!(head.contains(" 409 "), "a request for an earlier leader was answered: {head}");
    println!("a request for an earlier leader is refused");
    Ok(())
}

struct Instance {
    process: Child,
    address: SocketAddr,
}

impl Instance {
    fn start(name: &str, url: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        let mut process = command.env("RLOCK_URL", url).env(INSTANCE, name).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("it was asked for")?).read_line(&mut line)?;
        Ok(Self { process, address: line.trim().parse()? })
    }

    /// Retries until the answer is `expected`.
    fn answer(&self, expected: &str) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            let (head, body) = self.get("/")?;
            if body == expected {
                return Ok(body);
            }
            ensure!(begun.elapsed() < Duration::from_secs(30), "no {expected:?}: {head} {body}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The head and the body of the answer to a request.
    fn get(&self, path: &str) -> anyhow::Result<(String, String)> {
        let mut stream = TcpStream::connect(self.address)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("the answer has no body")?;
        Ok((head.to_owned(), body.to_owned()))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
    }
}
