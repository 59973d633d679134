//! A TCP proxy that injects network faults.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use url::Url;

/// A TCP proxy in front of one or more servers, on ports of the loopback interface. It passes all bytes on until a
/// method injects a fault. Each method applies to existing and to new connections.
///
/// It runs on its own thread, so that a test which blocks its runtime does not stall it. Dropping it closes every
/// connection.
#[derive(Debug)]
pub struct Proxy {
    urls: Vec<String>,
    state: watch::Sender<State>,
    _stop: oneshot::Sender<()>,
}

/// The direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Bytes from clients to the server.
    ToServer,
    /// Bytes from the server to clients.
    ToClient,
    /// Both directions.
    Both,
}

/// How long one side of a half-open connection stays open after the other side closed. Keeping it for ever would use up
/// the file descriptors of the system.
const FORGOTTEN: Duration = Duration::from_secs(30);
const NO_HURRY: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
struct State {
    servers: Vec<String>,
    is_cut: bool,
    /// Grows with each cut; open connections end when it changes.
    cuts: u64,
    /// Grows with each [`strand`](Proxy::strand).
    strands: u64,
    /// Connections from before this strand hold requests back.
    stranded: u64,
    to_server: Flow,
    to_client: Flow,
    latency: Duration,
    /// The number of bytes passed on.
    passed: Arc<AtomicU64>,
    round_trips: Arc<AtomicU64>,
}

/// The state of one connection.
#[derive(Debug, Default)]
struct Connection {
    /// Whether it has lost bytes.
    is_dead: AtomicBool,
    /// Whether the last bytes passed on were a request.
    is_asked: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Passes,
    Waits,
    GetsLost,
}

impl Proxy {
    /// Starts a proxy in front of the server at `url`, which has to contain host and port.
    ///
    /// # Panics
    ///
    /// Panics if it does not, or if the system has no free port or no thread.
    pub fn in_front_of(url: &str) -> Self {
        Self::in_front_of_all(&[url])
    }

    /// Starts one proxy in front of several servers. A fault applies to the connections of all of them.
    ///
    /// # Panics
    ///
    /// As [`in_front_of`](Self::in_front_of).
    pub fn in_front_of_all(urls: &[&str]) -> Self {
        let mut fronts: Vec<Url> =
            urls.iter().map(|url| Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))).collect();
        let (state, watched) = watch::channel(State::through_to(fronts.iter().map(authority).collect()));
        let (stop, stopped) = oneshot::channel();
        for (front, address) in fronts.iter_mut().zip(start(&watched, urls.len(), stopped)) {
            let is_set = front.set_host(Some("127.0.0.1")).is_ok() && front.set_port(Some(address.port())).is_ok();
            assert!(is_set, "{front}: no URL with host and port");
        }
        Self { urls: fronts.into_iter().map(String::from).collect(), state, _stop: stop }
    }

    /// The URL of the server, with the address of the proxy. With several servers, that of the first.
    pub fn url(&self) -> &str {
        &self.urls[0]
    }

    /// The URLs of the servers, with the addresses of the proxy.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Resets all connections, and each new one as soon as it is accepted.
    pub fn cut(&self) {
        self.change(|state| {
            state.cuts += 1;
            state.is_cut = true;
        });
    }

    /// Resets all connections; new ones are passed through.
    pub fn reset(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// Holds bytes back, and delivers them after a [`heal`](Self::heal).
    pub fn stall(&self, way: Way) {
        self.flow(way, Flow::Waits);
    }

    /// Holds back the bytes that open connections send to the server, and delivers them after a [`heal`](Self::heal).
    /// New connections pass bytes on, so that a later request may overtake an earlier one.
    pub fn strand(&self) {
        self.change(|state| {
            state.strands += 1;
            state.stranded = state.strands;
        });
    }

    /// Drops bytes silently, so that connections are half-open. A connection that has lost bytes stays silent for good,
    /// as if its other end were gone.
    pub fn lose(&self, way: Way) {
        self.flow(way, Flow::GetsLost);
    }

    /// Delivers each portion of bytes with this delay.
    pub fn slow(&self, latency: Duration) {
        self.change(|state| state.latency = latency);
    }

    /// Ends all faults. Connections that were reset or have lost bytes stay broken.
    pub fn heal(&self) {
        self.change(|state| {
            let (cuts, strands) = (state.cuts, state.strands);
            let (passed, round_trips) = (state.passed.clone(), state.round_trips.clone());
            *state = State { cuts, strands, passed, round_trips, ..State::through_to(state.servers.clone()) };
        });
    }

    /// The number of bytes passed on so far, both ways. Bytes of a reply are counted before the client reads them.
    pub fn passed(&self) -> u64 {
        self.state.borrow().passed.load(Ordering::SeqCst)
    }

    /// The number of requests passed on so far, over all connections. Bytes of a client without bytes of the server
    /// between them are one request.
    pub fn round_trips(&self) -> u64 {
        self.state.borrow().round_trips.load(Ordering::SeqCst)
    }

    /// Sends new connections to the server at `url` from now on, and resets the existing ones: a failover.
    ///
    /// # Panics
    ///
    /// Panics if the URL does not contain host and port, or if this proxy is in front of several servers.
    pub fn lead_to(&self, url: &str) {
        self.lead_new_to(url);
        self.reset();
    }

    /// Sends new connections to the server at `url` from now on, and leaves the existing ones where they are: a new
    /// address behind a name.
    ///
    /// # Panics
    ///
    /// As [`lead_to`](Self::lead_to).
    pub fn lead_new_to(&self, url: &str) {
        assert_eq!(self.urls.len(), 1, "one server replaces one");
        let server = authority(&Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}")));
        self.change(|state| state.servers = vec![server]);
    }

    fn flow(&self, way: Way, flow: Flow) {
        self.change(|state| {
            if way != Way::ToClient {
                state.to_server = flow;
            }
            if way != Way::ToServer {
                state.to_client = flow;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }
}

impl State {
    fn through_to(servers: Vec<String>) -> Self {
        let (to_server, to_client) = (Flow::Passes, Flow::Passes);
        let (passed, round_trips) = (Arc::default(), Arc::default());
        let (cuts, strands, stranded, latency) = (0, 0, 0, Duration::ZERO);
        Self { servers, is_cut: false, cuts, strands, stranded, to_server, to_client, latency, passed, round_trips }
    }
}

fn authority(url: &Url) -> String {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        panic!("{}: no URL with host and port", url.as_str())
    };
    format!("{host}:{port}")
}

/// Runs a proxy on its own thread. Returns the address at which it listens for each of its servers.
fn start(state: &watch::Receiver<State>, servers: usize, stopped: oneshot::Receiver<()>) -> Vec<SocketAddr> {
    let listen = |_| {
        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface has a port");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        listener
    };
    let listeners: Vec<_> = (0..servers).map(listen).collect();
    let address = |listener: &std::net::TcpListener| listener.local_addr().expect("a bound listener has an address");
    let addresses = listeners.iter().map(address).collect();
    let state = state.clone();
    thread::Builder::new()
        .name("proxy".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("the system can start a runtime").block_on(async {
                for (server, listener) in listeners.into_iter().enumerate() {
                    let listener = TcpListener::from_std(listener).expect("the runtime takes a listener");
                    tokio::spawn(accept(listener, server, state.clone()));
                }
                let _dropped = stopped.await;
            });
        })
        .expect("the system has a thread");
    addresses
}

async fn accept(listener: TcpListener, server: usize, state: watch::Receiver<State>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(serve(client, server, state.clone()))),
            Err(_no_descriptor_left) => sleep(NO_HURRY).await,
        }
    }
}

/// Serves one connection, until either end closes it or it is cut.
async fn serve(client: TcpStream, server: usize, mut state: watch::Receiver<State>) {
    let begun = state.borrow_and_update().clone();
    let server = if begun.is_cut { None } else { TcpStream::connect(&begun.servers[server]).await.ok() };
    let Some(server) = server else {
        let _resets = client.set_zero_linger();
        return;
    };
    let _prompt = (client.set_nodelay(true), server.set_nodelay(true));
    let connection = Connection::default();
    let to_server = |state: &State| if begun.strands < state.stranded { Flow::Waits } else { state.to_server };
    let requests = pass(Way::ToServer, &client, &server, state.clone(), to_server, &connection);
    let replies = pass(Way::ToClient, &server, &client, state.clone(), |state| state.to_client, &connection);
    tokio::select! {
        () = requests => {}
        () = replies => {}
        _ = state.wait_for(|state| state.cuts > begun.cuts) => {
            let _resets = (client.set_zero_linger(), server.set_zero_linger());
        }
    }
}

/// Passes bytes on until `from` is closed. If the close itself gets lost, `to` stays open for a while after it.
async fn pass(
    way: Way,
    from: &TcpStream,
    to: &TcpStream,
    mut state: watch::Receiver<State>,
    flow: impl Fn(&State) -> Flow,
    connection: &Connection,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let len = read(from, &mut bytes).await;
        let latency = state.borrow().latency;
        if !latency.is_zero() {
            sleep(latency).await;
        }
        let gets_lost = match state.wait_for(|state| flow(state) != Flow::Waits).await {
            Ok(state) => flow(&state) == Flow::GetsLost,
            Err(_proxy_gone) => return,
        };
        if gets_lost || connection.is_dead.load(Ordering::SeqCst) {
            connection.is_dead.store(true, Ordering::SeqCst);
            if len == 0 {
                return sleep(FORGOTTEN).await;
            }
        } else if len == 0 {
            return;
        } else {
            state.borrow().passed.fetch_add(len as u64, Ordering::SeqCst);
            let is_request = way == Way::ToServer;
            if !connection.is_asked.swap(is_request, Ordering::SeqCst) && is_request {
                state.borrow().round_trips.fetch_add(1, Ordering::SeqCst);
            }
            if !write_all(to, &bytes[..len]).await {
                return;
            }
        }
    }
}

/// Reads bytes and returns their number; 0 at the end of the stream.
async fn read(from: &TcpStream, bytes: &mut [u8]) -> usize {
    loop {
        if from.readable().await.is_err() {
            return 0;
        }
        match from.try_read(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return 0,
            Ok(len) => return len,
        }
    }
}

/// Writes all bytes. Returns whether that succeeded.
async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        if to.writable().await.is_err() {
            return false;
        }
        match to.try_write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
            Ok(len) => bytes = &bytes[len..],
        }
    }
    true
}
