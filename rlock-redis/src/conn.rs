//! One connection to a server.
//!
//! fred is used for the protocol only. Its own reconnecting is off: it would keep commands while it reconnects and send
//! them long after their callers gave up, and it does not notice a dead connection that is written to. So a broken
//! connection stays broken, all requests in flight on it fail at once, and its user opens the next.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::interfaces::{AuthInterface as _, ClientLike as _, EventInterface as _, PubsubInterface as _};
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Message, RespVersion};
use futures_util::FutureExt as _;
use futures_util::future::poll_immediate;
use rlock_core::{Cause, ServerClock};
use tokio::sync::{Notify, broadcast};
use tokio::time::timeout;

use crate::address::Address;
use crate::answers;
use crate::client::{Endpoint, call_error, is_of_transport, unsent};
use crate::error::CallError;
use crate::grace::Grace;
use crate::silent_spell::{SUSPICIOUS, SilentSpell};
use crate::wire::{Args, Reply};

/// The interval of reading the server's clock, while claims are made.
const BETWEEN_READINGS: Duration = Duration::from_secs(60);

/// An open connection. It sends the commands of all tasks in order, without waiting for the answers to earlier ones.
#[derive(Debug)]
pub(crate) struct Conn {
    client: Client,
    address: Address,
    has_resp3: bool,
    /// The identity of the server when the connection was opened, where replicas have to confirm grants.
    identity: Option<String>,
    timeout: Duration,
    opened: Instant,
    /// The time of the last answer, in microseconds after `opened`.
    last_answer: AtomicU64,
    grace: Grace,
    clock: ServerClock,
    /// The time of the last request for the server's time, in the same unit as `last_answer`.
    clock_read: AtomicU64,
    end: Arc<End>,
    suspicious: Notify,
    /// The time of the last request that became suspicious, in the same unit as `last_answer`.
    suspicious_since: AtomicU64,
    silent_spell: SilentSpell,
}

/// The time since which a connection is silent.
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
    /// It has to be replaced.
    useless: Notify,
    /// The connection is gone. fred does not then fail every command in flight.
    closed: Notify,
    is_closed: AtomicBool,
}

impl Conn {
    /// Connects and logs in, and selects the database that the endpoint names. The connection speaks RESP2.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no connection behind.
    pub(crate) async fn open(endpoint: &Endpoint<'_>) -> Result<(Self, Driver), CallError> {
        let client = endpoint.builder()?.build().map_err(unsent)?;
        let driver = Driver::start(&client, endpoint).await?;
        let conn = Self {
            client,
            address: endpoint.address.clone(),
            has_resp3: false,
            identity: None,
            timeout: endpoint.config.timeout,
            opened: Instant::now(),
            last_answer: AtomicU64::new(0),
            grace: Grace::new(endpoint.config.restart_grace, endpoint.config.is_alone()),
            clock: ServerClock::default(),
            clock_read: AtomicU64::new(0),
            end: driver.end.clone(),
            suspicious: Notify::new(),
            suspicious_since: AtomicU64::new(0),
            silent_spell: SilentSpell::default(),
        };
        Ok((conn, driver))
    }

    /// Switches to RESP3 if the server supports it.
    pub(crate) async fn switch_protocol(&mut self, endpoint: &Endpoint<'_>) -> Result<(), CallError> {
        let hello = self.client.hello(RespVersion::RESP3, None, None);
        self.has_resp3 = match timeout(endpoint.config.connect_timeout, hello).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) if is_of_transport(&error) => return Err(endpoint.connect_error(error)),
            Ok(Err(_refused)) => false,
            Err(_elapsed) => return Err(no_answer(endpoint)),
        };
        Ok(())
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn set_identity(&mut self, identity: Option<String>) {
        self.identity = identity;
    }

    /// Whether the server had this identity when the connection was opened, as far as it reports one. A proxy may lead
    /// connections to different servers.
    pub(crate) fn began_with(&self, identity: Option<&str>) -> bool {
        self.identity.as_deref() == identity
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.end.is_closed.load(Ordering::Acquire)
    }

    pub(crate) fn grace(&self) -> &Grace {
        &self.grace
    }

    /// The server's clock, as far as this connection knows it.
    pub(crate) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Whether the server's clock was last read so long ago that it may have drifted from the client's.
    pub(crate) fn is_clock_old(&self) -> bool {
        let age = self.elapsed().saturating_sub(self.clock_read.load(Ordering::Relaxed));
        Duration::from_micros(age) > BETWEEN_READINGS
    }

    /// Reads the server's clock.
    pub(crate) async fn read_clock(&self) -> Result<(), CallError> {
        self.clock_read.store(self.elapsed(), Ordering::Relaxed);
        let sent = Instant::now();
        let reply = self.command("TIME", Args::default()).await?;
        let micros = answers::time(&reply).ok_or_else(|| CallError::Refused(format!("{reply:?} to TIME")))?;
        self.clock.note(sent, Instant::now(), micros);
        Ok(())
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether the connection takes commands while it is subscribed. It does not if the server, or a proxy in front of
    /// it, does not support HELLO.
    pub(crate) fn has_resp3(&self) -> bool {
        self.has_resp3
    }

    /// The server's version, major and minor, if it reports one.
    pub(crate) fn version(&self) -> Option<(u64, u64)> {
        self.client.server_version().map(|version| (version.major, version.minor))
    }

    /// Sends a command and waits for the answer, at most for the timeout.
    ///
    /// # Cancel safety
    ///
    /// A command whose future is dropped may be carried out.
    pub(crate) async fn command(&self, name: &'static str, args: Args) -> Result<Reply, CallError> {
        self.command_within(Duration::ZERO, name, args).await
    }

    /// The same for a command that the server answers after up to `more` time.
    ///
    /// # Cancel safety
    ///
    /// As [`command`](Self::command).
    pub(crate) async fn command_within(
        &self,
        more: Duration,
        name: &'static str,
        args: Args,
    ) -> Result<Reply, CallError> {
        let closed = self.end.closed.notified();
        if self.is_closed() {
            return Err(CallError::Unsent(Cause::new("the connection is closed")));
        }
        tokio::select! {
            biased;
            reply = self.send(more, name, args) => reply,
            () = closed => Err(CallError::Unanswered(Cause::new("the connection broke"))),
        }
    }

    /// The same for a command about a hash slot that the server is taking over.
    ///
    /// Before the server owns a slot, it lets only the command after `ASKING` use it. If another task's command comes
    /// between the two, that one does no harm, and this one fails with `MOVED`.
    ///
    /// # Cancel safety
    ///
    /// As [`command`](Self::command).
    pub(crate) async fn command_asking(&self, name: &'static str, args: Args) -> Result<Reply, CallError> {
        let (asked, reply) = tokio::join!(biased; self.command("ASKING", Args::default()), self.command(name, args));
        asked?;
        reply
    }

    async fn send(&self, more: Duration, name: &'static str, args: Args) -> Result<Reply, CallError> {
        // The other methods of fred parse the answer into its own type of values. `custom_raw` returns the frame.
        let command = CustomCommand::new_static(name, ClusterHash::Random, false);
        let sent = self.elapsed();
        // The box shortens the build by 5 s, and costs an allocation per command.
        let mut answer = self.client.custom_raw(command, args.0).boxed();
        let (first, limit) = (SUSPICIOUS + more, self.timeout + more);
        let mut answered = timeout(limit.min(first), &mut answer).await;
        if answered.is_err() {
            if self.is_silent_since(sent) {
                self.suspicious_since.fetch_max(sent, Ordering::Relaxed);
                self.suspicious.notify_one();
                let last_answer = self.last_answer.load(Ordering::Relaxed);
                if self.silent_spell.lasts(limit, sent, self.elapsed(), last_answer) {
                    self.give_up();
                }
            }
            answered = timeout(limit.saturating_sub(first), answer).await;
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
                let reason = format!("no answer within {limit:?}: the server or the network is stuck or slow");
                Err(CallError::Unanswered(Cause::new(reason)))
            }
        }
    }

    /// Returns when a request has had no answer for a suspiciously long time, and no later request has had one.
    /// [`is_silent`](Self::is_silent) says whether an answer has come since.
    pub(crate) async fn suspected(&self) -> Silence {
        loop {
            self.suspicious.notified().await;
            let silence = Silence(self.suspicious_since.load(Ordering::Relaxed));
            if self.is_silent(&silence) {
                return silence;
            }
        }
    }

    /// Returns whether the server runs scripts. While it holds back writes, it may still answer all other commands.
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

    /// Has the connection replaced, because it is silent or leads to the wrong server.
    pub(crate) fn give_up(&self) {
        self.end.useless.notify_one();
    }

    /// Subscribes to a channel. The client library may drop the server's refusal.
    pub(crate) async fn listen(&self, channel: &str) -> Result<broadcast::Receiver<Message>, CallError> {
        let messages = self.client.message_rx();
        self.client.subscribe(channel).await.map_err(call_error)?;
        Ok(messages)
    }

    pub(crate) async fn ping(&self) -> Result<(), CallError> {
        self.command("PING", Args::default()).await.map(drop)
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Driver {
    async fn start(client: &Client, endpoint: &Endpoint<'_>) -> Result<Self, CallError> {
        let mut connected = pin!(client.wait_for_connect());
        // The first poll subscribes; otherwise an early answer would be missed.
        let _not_yet = poll_immediate(connected.as_mut()).await;
        let driver = Self { task: client.connect(), end: Arc::default() };
        match timeout(endpoint.config.connect_timeout, connected).await {
            Ok(Ok(())) => Ok(driver),
            Ok(Err(error)) => Err(endpoint.connect_error(error)),
            Err(_elapsed) => Err(no_answer(endpoint)),
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

fn no_answer(endpoint: &Endpoint<'_>) -> CallError {
    let (waited, question) = (endpoint.config.connect_timeout, endpoint.unanswered());
    CallError::Unsent(Cause::new(format!("no answer within {waited:?}: {question}")))
}
