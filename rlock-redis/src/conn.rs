//! One connection to the server. This is the only file that knows the client library, fred.
//!
//! fred is used for the protocol only. Its own reconnecting is off: it would keep commands while it reconnects and
//! send them long after their callers gave up, and it does not notice a silent connection that is written to.
//! So a connection that breaks stays broken, everything under way on it fails at once, and its user opens the
//! next.

use std::error::Error;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::interfaces::{AuthInterface as _, ClientLike as _, EventInterface as _, PubsubInterface as _};
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, Server, ServerConfig, TcpConfig, UnresponsiveConfig,
};
use fred::types::{Builder, ClusterHash, ConnectHandle, CustomCommand, Message, Resp3Frame, RespVersion, Value};
use futures_util::future::poll_immediate;
use tokio::sync::{Notify, broadcast};
use tokio::time::timeout;

use crate::error::{CallError, Cause};
use crate::{RedisConfig, rights, server};

/// The number of unsent commands beyond which further ones fail.
const MAX_UNSENT: usize = 16_384;
/// The silence of a connection with a request under way after which another connection is opened, to find out whether the
/// connection is dead or the server is slow.
const SUSPICIOUS: Duration = Duration::from_millis(500);
/// The number of unread messages beyond which some are lost. The loss is noticed.
const MAX_UNREAD: usize = 4_096;

/// An open connection. Commands of all tasks go over it in the order in which they are sent, without waiting for
/// each other's answers.
#[derive(Debug)]
pub(crate) struct Conn {
    client: Client,
    has_resp3: bool,
    timeout: Duration,
    opened: Instant,
    /// The time of the last answer, in microseconds after `opened`.
    last_answer: AtomicU64,
    restart_grace: Duration,
    /// The instant from which the server may grant. Not set while the server withholds its uptime.
    grants_from: OnceLock<Instant>,
    end: Arc<End>,
    suspicious: Notify,
    /// The time of the last request that became suspicious, in the same unit as `last_answer`.
    suspicious_since: AtomicU64,
}

/// Since when a connection is silent.
#[derive(Debug)]
pub(crate) struct Silence(u64);

/// The driver of a connection. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Driver {
    task: ConnectHandle,
    end: Arc<End>,
}

/// The end of a connection.
#[derive(Debug, Default)]
struct End {
    /// It is to be replaced.
    useless: Notify,
    /// The connection is gone. fred does not fail every command that is under way then.
    closed: Notify,
    is_closed: AtomicBool,
}

impl Conn {
    /// Connects, logs in, selects the database and makes sure that the server stands alone and takes writes.
    ///
    /// Claims fail while the server withholds its uptime; other requests work. See [`may_grant`](Self::may_grant).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no connection behind.
    pub(crate) async fn open(config: &RedisConfig) -> Result<(Arc<Self>, Driver), CallError> {
        let client = builder(config)?.build().map_err(unsent)?;
        let driver = Driver::start(&client, config).await?;
        let end = driver.end.clone();
        let has_resp3 = switch_protocol(&client, config).await?;
        let (timeout, opened) = (config.timeout, Instant::now());
        let conn = Self {
            client,
            has_resp3,
            timeout,
            opened,
            last_answer: AtomicU64::new(0),
            restart_grace: config.restart_grace,
            grants_from: if config.restart_grace.is_zero() { OnceLock::from(opened) } else { OnceLock::new() },
            end,
            suspicious: Notify::new(),
            suspicious_since: AtomicU64::new(0),
        };
        let (is_fit, grants_from) = tokio::join!(server::check_mode_and_role(&conn), conn.grants_from());
        is_fit?;
        match grants_from {
            Ok(_) | Err(CallError::Unfit(_)) => Ok((Arc::new(conn), driver)),
            Err(error) => Err(error),
        }
    }

    /// The instant from which the server may grant; [`CallError::Unfit`] while it withholds its uptime.
    pub(crate) async fn grants_from(&self) -> Result<Instant, CallError> {
        if let Some(&known) = self.grants_from.get() {
            return Ok(known);
        }
        let age = server::least_age(self).await?;
        Ok(*self.grants_from.get_or_init(|| Instant::now() + self.restart_grace.saturating_sub(age)))
    }

    /// Fails while the server's uptime is below the grace after restarts, or withheld. A failure takes up to 200 ms, so that
    /// callers do not retry in a tight loop.
    pub(crate) async fn may_grant(&self) -> Result<(), CallError> {
        const MOMENT: Duration = Duration::from_millis(200);
        let left = self.grants_from().await?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        tokio::time::sleep(left.min(MOMENT)).await;
        if left <= MOMENT {
            return Ok(());
        }
        let reason = format!(
            "the server was started a moment ago: earlier holders have {:?} left to learn of their loss (restart_grace)",
            left - MOMENT
        );
        Err(CallError::Unsent(Cause::new(reason)))
    }

    /// Whether the connection goes on taking commands while it is subscribed. It does not where the server, or a proxy in
    /// front of it, does not know HELLO.
    pub(crate) fn has_resp3(&self) -> bool {
        self.has_resp3
    }

    /// The server's version, major and minor, where it says.
    pub(crate) fn version(&self) -> Option<(u64, u64)> {
        self.client.server_version().map(|version| (version.major, version.minor))
    }

    /// Sends a command and waits for the answer, for no longer than the timeout.
    ///
    /// # Cancel safety
    ///
    /// A command whose future is dropped may be carried out.
    pub(crate) async fn command(&self, name: &'static str, args: Args) -> Result<Reply, CallError> {
        let closed = self.end.closed.notified();
        if self.end.is_closed.load(Ordering::Acquire) {
            return Err(CallError::Unsent(Cause::new("the connection is closed")));
        }
        tokio::select! {
            biased;
            reply = self.send(name, args) => reply,
            () = closed => Err(CallError::Unanswered(Cause::new("the connection broke"))),
        }
    }

    async fn send(&self, name: &'static str, args: Args) -> Result<Reply, CallError> {
        // fred flushes each EVALSHA by itself, but writes commands that it does not know together.
        let command = CustomCommand::new_static(name, ClusterHash::Random, false);
        let sent = self.elapsed();
        let mut answer = pin!(self.client.custom_raw(command, args.0));
        let mut answered = timeout(self.timeout.min(SUSPICIOUS), &mut answer).await;
        if answered.is_err() {
            if self.is_silent_since(sent) {
                self.suspicious_since.fetch_max(sent, Ordering::Relaxed);
                self.suspicious.notify_one();
            }
            answered = timeout(self.timeout.saturating_sub(SUSPICIOUS), answer).await;
        }
        match answered {
            Ok(Ok(frame)) => {
                self.last_answer.store(self.elapsed(), Ordering::Relaxed);
                Reply::from_answer(frame)
            }
            Ok(Err(error)) => Err(call_error(error)),
            Err(_elapsed) => {
                if self.is_silent_since(sent) {
                    self.give_up();
                }
                let reason = format!("no answer within {:?}: the server or the network is stuck or slow", self.timeout);
                Err(CallError::Unanswered(Cause::new(reason)))
            }
        }
    }

    /// Returns when a request has got no answer for a suspiciously long time, nor has any after it; with the instant
    /// from which on an answer would dispel the suspicion.
    pub(crate) async fn suspected(&self) -> Silence {
        loop {
            self.suspicious.notified().await;
            let silence = Silence(self.suspicious_since.load(Ordering::Relaxed));
            if self.is_silent(&silence) {
                return silence;
            }
        }
    }

    /// Returns whether the server runs scripts. It may answer all other commands while it holds back writes.
    pub(crate) async fn runs_scripts(&self) -> bool {
        self.run_empty_script().await.is_ok()
    }

    pub(crate) async fn run_empty_script(&self) -> Result<(), CallError> {
        let mut args = Args::default();
        args.fixed("return 1");
        args.fixed("0");
        self.command("EVAL", args).await.map(drop)
    }

    /// Returns whether the connection is still silent.
    pub(crate) fn is_silent(&self, since: &Silence) -> bool {
        self.is_silent_since(since.0)
    }

    fn is_silent_since(&self, elapsed: u64) -> bool {
        self.last_answer.load(Ordering::Relaxed) < elapsed
    }

    /// Has the connection replaced: it is silent, or leads to the wrong server.
    pub(crate) fn give_up(&self) {
        self.end.useless.notify_one();
    }

    /// Subscribes to a channel, and returns once the server delivers messages on it.
    pub(crate) async fn subscribe(&self, config: &RedisConfig, channel: &str) -> Result<Messages, CallError> {
        let messages = Messages(self.client.message_rx());
        // This returns before anything is written, and may drop the server's refusal. The server answers in order, and
        // counts this connection among the receivers if it is subscribed.
        self.client.subscribe(channel).await.map_err(call_error)?;
        let mut args = Args::with_capacity(2);
        args.text(channel);
        args.fixed(Messages::TRIAL);
        let receivers = if self.has_resp3 {
            self.command("PUBLISH", args).await?
        } else {
            self.ping().await?;
            let (other, _driver) = Box::pin(Self::open(config)).await?;
            other.command("PUBLISH", args).await?
        };
        match receivers {
            Reply::Number(1..) => Ok(messages),
            _ => Err(CallError::Unfit(format!(
                "the server did not subscribe this user to {channel}: {}",
                rights::remedy()
            ))),
        }
    }

    pub(crate) async fn ping(&self) -> Result<(), CallError> {
        self.command("PING", Args::default()).await.map(drop)
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Driver {
    async fn start(client: &Client, config: &RedisConfig) -> Result<Self, CallError> {
        let mut connected = pin!(client.wait_for_connect());
        // Polled once, it listens; an answer that came before that would be missed.
        let _not_yet = poll_immediate(connected.as_mut()).await;
        let driver = Self { task: client.connect(), end: Arc::default() };
        match timeout(config.connect_timeout, connected).await {
            Ok(Ok(())) => Ok(driver),
            Ok(Err(error)) => Err(connect_error(config, error)),
            Err(_elapsed) => {
                let (waited, question) = (config.connect_timeout, unanswered(config));
                Err(CallError::Unsent(Cause::new(format!("no answer within {waited:?}: {question}"))))
            }
        }
    }

    /// Returns when the connection is closed or given up.
    pub(crate) async fn ended(&mut self) {
        tokio::select! {
            _ = &mut self.task => {}
            () = self.end.useless.notified() => {}
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
        self.end.is_closed.store(true, Ordering::Release);
        self.end.closed.notify_waiters();
    }
}

/// The messages on a subscribed channel.
pub(crate) struct Messages(broadcast::Receiver<Message>);

/// A message, or the lack of some.
pub(crate) enum Delivery {
    Message(String),
    Missed,
}

impl Messages {
    /// The message by which a subscription is tried.
    const TRIAL: &'static str = "trial";

    /// The next message. After the connection has broken there is none, and this waits forever.
    pub(crate) async fn next(&mut self) -> Delivery {
        loop {
            match self.0.recv().await {
                Ok(message) => match message.value.as_string().unwrap_or_default() {
                    text if text == Self::TRIAL => {}
                    text => return Delivery::Message(text),
                },
                Err(broadcast::error::RecvError::Lagged(_)) => return Delivery::Missed,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

/// The arguments of a command.
#[derive(Debug, Default)]
pub(crate) struct Args(Vec<Value>);

impl Args {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn text(&mut self, text: impl Into<String>) {
        self.0.push(Value::from(text.into()));
    }

    pub(crate) fn bytes(&mut self, bytes: Vec<u8>) {
        self.0.push(Value::Bytes(bytes.into()));
    }

    pub(crate) fn fixed(&mut self, text: &'static str) {
        self.0.push(Value::from_static_str(text));
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.text(number.to_string());
    }
}

/// A server's answer, as far as it is needed here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Number(i64),
    Text(String),
    /// What is no text.
    Bytes(Vec<u8>),
    /// A map is one as well, of keys that are followed by their values.
    Array(Vec<Self>),
    Other,
}

impl Reply {
    /// The content of a string.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn from_answer(frame: Resp3Frame) -> Result<Self, CallError> {
        match frame {
            Resp3Frame::SimpleError { data, .. } => Err(CallError::Refused(data.to_string())),
            Resp3Frame::BlobError { data, .. } => Err(CallError::Refused(String::from_utf8_lossy(&data).into_owned())),
            frame => Ok(Self::from_frame(frame)),
        }
    }

    fn from_frame(frame: Resp3Frame) -> Self {
        match frame {
            Resp3Frame::Number { data, .. } => Self::Number(data),
            Resp3Frame::SimpleString { data, .. } | Resp3Frame::BlobString { data, .. } => {
                String::from_utf8(data.into()).map_or_else(|error| Self::Bytes(error.into_bytes()), Self::Text)
            }
            Resp3Frame::VerbatimString { data, .. } => Self::Text(String::from_utf8_lossy(&data).into_owned()),
            Resp3Frame::Array { data, .. } => Self::Array(data.into_iter().map(Self::from_frame).collect()),
            Resp3Frame::Map { data, .. } => {
                let pairs = data.into_iter().flat_map(|(key, value)| [key, value]);
                Self::Array(pairs.map(Self::from_frame).collect())
            }
            _ => Self::Other,
        }
    }
}

/// The hash slot of a key.
pub(crate) fn slot(key: &str) -> u16 {
    fred::util::redis_keyslot(key.as_bytes())
}

fn builder(config: &RedisConfig) -> Result<Builder, CallError> {
    let mut fred = Config {
        server: ServerConfig::Centralized { server: server(config) },
        // HELLO, by which fred logs in to RESP3, cannot carry a password with a space or a quote in it.
        version: RespVersion::RESP2,
        database: Some(config.database),
        fail_fast: true,
        ..Config::default()
    };
    if let Some(credentials) = &config.credentials {
        fred.username.clone_from(&credentials.user);
        fred.password = Some(credentials.password.clone());
    }
    #[cfg(feature = "tls")]
    if config.tls {
        fred.tls = Some(tls()?.into());
    }
    let mut builder = Builder::from_config(fred);
    builder
        .set_connection_config(ConnectionConfig {
            connection_timeout: config.connect_timeout,
            internal_command_timeout: config.connect_timeout,
            max_command_attempts: 1,
            max_command_buffer_len: MAX_UNSENT,
            unresponsive: UnresponsiveConfig { max_timeout: None, ..UnresponsiveConfig::default() },
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            // By default fred drops the connection at LOADING or READONLY, and with it what else is under way.
            reconnect_errors: Vec::new(),
            ..ConnectionConfig::default()
        })
        .set_performance_config(PerformanceConfig {
            // `Conn::command` has the timeout.
            default_command_timeout: Duration::ZERO,
            broadcast_channel_capacity: MAX_UNREAD,
            ..PerformanceConfig::default()
        });
    Ok(builder)
}

fn server(config: &RedisConfig) -> Server {
    #[allow(unused_mut, reason = "it is changed for TLS only")]
    let mut server = Server::new(config.host.as_str(), config.port);
    #[cfg(feature = "tls")]
    if config.tls {
        // An IPv6 address stands in brackets in a URL and in a socket address, but not in a certificate.
        let name = config.host.trim_start_matches('[').trim_end_matches(']');
        server.tls_server_name = Some(name.into());
    }
    server
}

/// TLS with the system's certificates. fred's own default panics once a program has two crypto providers in it.
#[cfg(feature = "tls")]
fn tls() -> Result<fred::types::config::TlsConnector, CallError> {
    use fred::rustls::{ClientConfig, RootCertStore, crypto::ring};

    let found = fred::rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _unreadable) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reason = "this system has no certificates to check the server's with: install ca-certificates";
        return Err(CallError::Unsent(Cause::new(reason)));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            CallError::Unsent(Cause { reason: "TLS cannot be set up".into(), source: Some(Arc::new(error)) })
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config.into())
}

/// Switches to RESP3, and returns whether the server knows that.
async fn switch_protocol(client: &Client, config: &RedisConfig) -> Result<bool, CallError> {
    let answered = timeout(config.connect_timeout, client.hello(RespVersion::RESP3, None, None)).await;
    match answered {
        Ok(Ok(())) => Ok(true),
        Ok(Err(error)) if is_of_transport(&error) => Err(connect_error(config, error)),
        Ok(Err(_refused)) => Ok(false),
        Err(_elapsed) => {
            let reason = format!("no answer within {:?}: {}", config.connect_timeout, unanswered(config));
            Err(CallError::Unsent(Cause::new(reason)))
        }
    }
}

/// fred answers with an error of its own, never the server's, which comes as a frame.
fn call_error(error: fred::error::Error) -> CallError {
    use fred::error::ErrorKind;

    // The two texts are those of a command that finds the connection's task gone.
    let task_gone = ["Failed to send command to router.", "Client is not initialized."];
    if *error.kind() == ErrorKind::Backpressure {
        let reason = format!("more than {MAX_UNSENT} commands wait to be sent");
        return CallError::Unsent(Cause { reason, source: source(error) });
    }
    if task_gone.contains(&error.details()) {
        return CallError::Unsent(Cause { reason: "the connection is closed".into(), source: source(error) });
    }
    CallError::Unanswered(Cause { reason: "the connection broke".into(), source: source(error) })
}

fn connect_error(config: &RedisConfig, error: fred::error::Error) -> CallError {
    use fred::error::ErrorKind;

    let details = error.details();
    let reason = match error.kind() {
        ErrorKind::IO if details.contains("ConnectionRefused") => "the connection was refused: is the server running?",
        ErrorKind::IO if details.contains("lookup") || details.contains("resolve") => {
            "the host name is not known: check the host in the URL"
        }
        ErrorKind::Timeout => unanswered(config),
        ErrorKind::Canceled => "the connection was closed while logging in",
        _ if config.tls && is_of_transport(&error) => {
            "TLS could not be set up: does the server speak TLS on this port, with a certificate that this system trusts?"
        }
        ErrorKind::IO => "the connection broke while logging in: does the server want TLS (rediss://)?",
        _ if is_of_transport(&error) => "what answered does not speak the protocol of Redis",
        // The server's answer to a login comes as the details of an error.
        _ => return CallError::Refused(details.to_owned()),
    };
    CallError::Unsent(Cause { reason: reason.into(), source: source(error) })
}

fn unanswered(config: &RedisConfig) -> &'static str {
    if config.tls {
        "is it a Redis server that speaks TLS on this port, and reachable?"
    } else {
        "is it a Redis server, and reachable?"
    }
}

fn is_of_transport(error: &fred::error::Error) -> bool {
    use fred::error::ErrorKind;

    match error.kind() {
        ErrorKind::IO | ErrorKind::Protocol | ErrorKind::Parse | ErrorKind::Url | ErrorKind::Config => true,
        #[cfg(feature = "tls")]
        ErrorKind::Tls => true,
        _ => false,
    }
}

fn unsent(error: fred::error::Error) -> CallError {
    CallError::Unsent(Cause { reason: "the connection cannot be set up".into(), source: source(error) })
}

fn source(error: fred::error::Error) -> Option<Arc<dyn Error + Send + Sync>> {
    Some(Arc::new(error))
}
