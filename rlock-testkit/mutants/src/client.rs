//! A client of the reference store's server.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use rand::RngExt as _;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, Event, EventStream, Extended, Extension, Failure, LeaseId,
    ListFilter, Namespace, Page, Release, Released, ResourceName, Snapshot, Ttl,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::is_on;
use crate::wire::{
    Answer, Envelope, FromServer, Hello, Request, State, WireClaim, WireKey, WireRelease, from_line, to_line,
};

/// Time limit to connect, and to answer a request.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long a request waits for a connection.
const PATIENCE: Duration = Duration::from_millis(250);

/// Number of leases in one request. A larger batch is sent as several requests, one after the other.
const PART: usize = 500;

/// A client of a [`Server`](crate::Server). It has one connection, and reconnects when that breaks.
pub struct Served {
    shared: Arc<Shared>,
    capabilities: Capabilities,
    connecting: AbortHandle,
}

struct Shared {
    address: String,
    hello: Hello,
    link: watch::Sender<Option<Arc<Link>>>,
    listener: Mutex<Option<UnboundedSender<Event>>>,
    numbers: AtomicU64,
}

/// A connection.
struct Link {
    to_write: UnboundedSender<String>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    useless: Notify,
}

impl Served {
    /// Connects to the server at `address`, `host:port`. Connections are served on the current runtime.
    ///
    /// # Errors
    ///
    /// If no connection succeeds within five seconds.
    pub async fn connect(address: &str, namespace: &Namespace) -> io::Result<Self> {
        let hello = Hello { client: LeaseId::random().to_hex(), namespace: namespace.to_string() };
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            hello,
            link: watch::Sender::new(None),
            listener: Mutex::default(),
            numbers: AtomicU64::new(0),
        });
        let connecting = tokio::spawn(stay_connected(shared.clone())).abort_handle();
        let served = Self { shared, capabilities: capabilities(), connecting };
        if served.shared.link(TIMEOUT * 5).await.is_none() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no server answers at {address}")));
        }
        Ok(served)
    }

    /// The number of resources that the store remembers.
    ///
    /// # Errors
    ///
    /// As those of [`Backend::inspect`].
    pub async fn leftovers(&self) -> Result<u64, BackendError> {
        self.ask("leftovers", &Request::Leftovers, count).await
    }

    /// Sends a request, and parses the answer.
    async fn ask<T>(
        &self,
        operation: &'static str,
        request: &Request,
        read: impl FnOnce(Answer) -> Option<T>,
    ) -> Result<T, BackendError> {
        loop {
            match self.ask_once(operation, request).await? {
                Answer::NotYet(left) => sleep(left).await,
                answer => return read(answer).ok_or_else(|| self.refused(operation)),
            }
        }
    }

    async fn ask_once(&self, operation: &'static str, request: &Request) -> Result<Answer, BackendError> {
        let not_applied = |reason| BackendError::NotApplied(self.failure(operation, reason));
        let unknown = |reason| match is_on("errors_never_admit_that_it_was_applied") {
            true => not_applied(reason),
            false => BackendError::Unknown(self.failure(operation, reason)),
        };
        let Some(link) = self.shared.link(PATIENCE).await else {
            return Err(not_applied("there is no connection"));
        };
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        link.waiting().insert(number, sender);
        if link.to_write.send(to_line(&Envelope { number, request })).is_err() {
            return Err(not_applied("the connection broke before the request was sent"));
        }
        match timeout(TIMEOUT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(unknown("the connection broke before the answer came")),
            Err(_) => {
                if !is_on("a_connection_that_does_not_answer_is_kept") {
                    link.useless.notify_one();
                }
                Err(unknown("no answer came in time"))
            }
        }
    }

    /// Sends a request for many leases, and returns an answer for each.
    async fn ask_all<Q, A, T>(
        &self,
        operation: &'static str,
        entries: &[Q],
        request: impl Fn(&[Q]) -> Request,
        list: impl Fn(Answer) -> Option<Vec<A>>,
        read: impl Fn(&Q, A) -> Result<T, BackendError>,
    ) -> Vec<Result<T, BackendError>> {
        let mut answers = Vec::with_capacity(entries.len());
        let mut parts = entries.chunks(PART);
        for part in parts.by_ref() {
            match self.ask(operation, &request(part), &list).await {
                Ok(all) => answers.extend(part.iter().zip(all).map(|(entry, answer)| read(entry, answer))),
                Err(error) => {
                    answers.extend(part.iter().map(|_| Err(error.clone())));
                    break;
                }
            }
        }
        let unsent = || BackendError::NotApplied(self.failure(operation, "a part of the batch before failed"));
        answers.extend(parts.flatten().map(|_| Err(unsent())));
        answers
    }

    fn failure(&self, operation: &'static str, reason: &str) -> Failure {
        Failure::new(operation, self.shared.address.as_str(), reason)
    }

    fn refused(&self, operation: &'static str) -> BackendError {
        BackendError::Rejected(self.failure(operation, "the server refused, or answered something else"))
    }
}

#[async_trait]
impl Backend for Served {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        let request = |claims: &[Claim]| Request::Acquire(claims.iter().map(WireClaim::from).collect());
        let mut answers = self
            .ask_all("acquire", claims, request, states, |claim, state| match state {
                State::CapacityMismatch { asked, actual } => {
                    Err(BackendError::CapacityMismatch { resource: claim.key.resource.clone(), asked, actual })
                }
                state => state.acquired().ok_or_else(|| self.refused("acquire")),
            })
            .await;
        if is_on("every_third_reply_gets_lost") && self.shared.numbers.load(Ordering::Relaxed).is_multiple_of(3) {
            answers.fill_with(|| Err(BackendError::Unknown(self.failure("acquire", "the reply got lost"))));
        }
        answers
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let pair = |it: &Extension| (WireKey::from(&it.key), it.ttl.as_millis());
        let request = |extensions: &[Extension]| Request::Extend(extensions.iter().map(pair).collect());
        let read = |_: &Extension, state: State| state.extended().ok_or_else(|| self.refused("extend"));
        let mut answers = self.ask_all("extend", extensions, request, states, read).await;
        if is_on("a_broken_connection_is_taken_for_a_loss") {
            answers.iter_mut().filter(|it| it.is_err()).for_each(|it| *it = Ok(Extended::Gone { taken: false }));
        }
        answers
    }

    async fn release(&self, leases: &[Release]) -> Vec<Result<Released, BackendError>> {
        let request = |leases: &[Release]| Request::Release(leases.iter().map(WireRelease::from).collect());
        let list = |answer| match answer {
            Answer::Released(released) => Some(released),
            _ => None,
        };
        let read = |_: &Release, released| Ok(if released { Released::Released } else { Released::Absent });
        self.ask_all("release", leases, request, list, read).await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        let name = resource.to_string();
        self.ask("inspect", &Request::Inspect(name), |answer| answer.snapshot(resource.clone())).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        let ListFilter { prefix, after, limit } = filter.clone();
        let request = Request::List { prefix, after: after.map(|cursor| cursor.0), limit };
        self.ask("list", &request, Answer::page).await
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        self.ask("break", &Request::Break(resource.to_string()), count).await
    }

    fn events(&self) -> EventStream {
        let (sender, mut receiver) = unbounded_channel();
        *self.shared.listener() = Some(sender);
        futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()
    }
}

fn states(answer: Answer) -> Option<Vec<State>> {
    match answer {
        Answer::States(states) => Some(states),
        _ => None,
    }
}

fn count(answer: Answer) -> Option<u64> {
    match answer {
        Answer::Count(count) => Some(count),
        _ => None,
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        backend: "reference",
        min_ttl: Ttl::MIN,
        max_ttl: Ttl::MAX,
        ttl_step: Duration::from_millis(1),
        expiry_lag: Duration::ZERO,
        queue: true,
        push: !is_on("events_are_sent_but_not_declared"),
        rest: true,
        data: true,
    }
}

/// Reconnects until the client is dropped.
async fn stay_connected(shared: Arc<Shared>) {
    const SHORTEST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_millis(200);
    let (mut was_connected, mut pause) = (false, SHORTEST);
    loop {
        if let Ok(Ok((lines, writer))) = timeout(TIMEOUT, shared.open()).await {
            let (to_write, written) = unbounded_channel();
            let link = Arc::new(Link { to_write, waiting: Mutex::default(), useless: Notify::new() });
            shared.link.send_replace(Some(link.clone()));
            if was_connected && !is_on("nothing_is_asked_again_after_a_broken_connection") {
                shared.tell(Event::Resync);
            }
            (was_connected, pause) = (true, SHORTEST);
            tokio::select! {
                () = write(writer, written) => {}
                () = shared.read(lines, &link) => {}
                () = link.useless.notified() => {}
            }
            shared.link.send_replace(None);
            // The connection cannot be written to any more. Clearing the map ends the waits for answers.
            link.waiting().clear();
            if is_on("a_broken_connection_stays_broken") {
                return;
            }
        }
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..=1.0));
        sleep(jittered).await;
        pause = (pause * 2).min(LONGEST);
    }
}

async fn write(mut writer: OwnedWriteHalf, mut lines: UnboundedReceiver<String>) {
    while let Some(line) = lines.recv().await {
        if writer.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// The connection, as soon as there is one within `limit`.
    async fn link(&self, limit: Duration) -> Option<Arc<Link>> {
        let mut links = self.link.subscribe();
        let connected = async {
            loop {
                if let Some(link) = &*links.borrow_and_update() {
                    return Some(link.clone());
                }
                links.changed().await.ok()?;
            }
        };
        timeout(limit, connected).await.ok().flatten()
    }

    /// Opens a connection, and waits for the first line of the server.
    async fn open(&self) -> io::Result<(Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf)> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(io::ErrorKind::ConnectionRefused.into()); // it has connected to itself: no server
        }
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        writer.write_all(to_line(&self.hello).as_bytes()).await?;
        match lines.next_line().await?.as_deref().and_then(from_line) {
            Some(FromServer::Ready) => Ok((lines, writer)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Delivers the messages of the server, until the connection ends.
    async fn read(&self, mut lines: Lines<BufReader<OwnedReadHalf>>, link: &Link) {
        while let Ok(Some(line)) = lines.next_line().await {
            let Some(message) = from_line::<FromServer>(&line) else { return };
            if let Some(event) = message.event() {
                self.tell(event);
            } else if let FromServer::Answer { number, answer } = message {
                link.answer(number, answer);
            }
        }
    }

    fn tell(&self, event: Event) {
        if let Some(listener) = &*self.listener() {
            let _no_listener = listener.send(event);
        }
    }

    fn listener(&self) -> MutexGuard<'_, Option<UnboundedSender<Event>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    fn answer(&self, mut number: u64, answer: Answer) {
        let mut waiting = self.waiting();
        if is_on("answers_go_to_the_latest_request") {
            number = waiting.keys().copied().max().unwrap_or(number);
        }
        if let Some(waiting) = waiting.remove(&number) {
            let _gave_up = waiting.send(answer);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.connecting.abort();
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("address", &self.shared.address).finish_non_exhaustive()
    }
}
