//! The reference store as a server that keeps confirmed requests.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{FutureExt as _, StreamExt as _};
use rlock_core::{
    Backend, BackendError, Claim, Clock, Cursor, EventStream, Extended, Extension, ListFilter, Moment, Namespace,
    Release, Released, ResourceName,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::sleep;

use crate::is_on;
use crate::memory::{MemoryBackend, MemoryStore};
use crate::wire::{
    Answer, Envelope, FromServer, Hello, Request, State, WireClaim, WireKey, WireRelease, from_line, to_line,
};

/// The reference store as a server.
///
/// It writes each request into a journal before it answers. A server that starts with a journal repeats all requests,
/// with the clock of their first run, and so restores all that was confirmed.
#[derive(Debug)]
pub struct Server {
    kept: Mutex<Kept>,
    rows: Rows,
}

#[derive(Debug)]
struct Kept {
    journal: File,
    store: Arc<MemoryStore>,
    /// The clock of the store, and the time that it shows.
    clock: Clock,
    shows: Duration,
    grants_from: Duration,
    clients: HashMap<String, Arc<MemoryBackend>>,
    /// The number of answered requests.
    answered: usize,
}

/// An entry of the journal.
#[derive(Debug, Serialize, Deserialize)]
enum JournalEntry {
    /// The store was empty, and its first token follows this one.
    Began { last_token: u64, grants_from: Duration },
    /// A request of a client.
    Asked { at: Duration, client: Hello, request: Request },
}

impl Server {
    /// Opens a server that continues the journal in `folder`. Without a journal it grants nothing for `grace`, so that
    /// the holders of lost leases have time to notice.
    ///
    /// # Errors
    ///
    /// Errors of the file.
    pub fn open(folder: &Path, grace: Duration) -> io::Result<Arc<Self>> {
        let path = folder.join("journal");
        let written = fs::read_to_string(&path).unwrap_or_default();
        let mut entries = written.lines().map_while(from_line::<JournalEntry>);
        let grace = if is_on("a_store_that_lost_its_data_grants_at_once") { Duration::ZERO } else { grace };
        let (last_token, grants_from, is_new) = match entries.next() {
            Some(JournalEntry::Began { last_token, grants_from }) if !is_on("a_restart_loses_everything") => {
                (last_token, grants_from, false)
            }
            _ => (first_token(), since_boot() + grace, true),
        };
        let clock = Clock::manual();
        let store = MemoryStore::starting_after(last_token, clock.clone());
        let journal = OpenOptions::new().create(true).append(true).open(path)?;
        let mut kept =
            Kept { journal, store, clock, shows: Duration::ZERO, grants_from, clients: HashMap::new(), answered: 0 };
        if is_new {
            kept.write(&JournalEntry::Began { last_token, grants_from })?;
        } else {
            for entry in entries {
                kept.repeat(&entry);
            }
        }
        Ok(Arc::new(Self { kept: Mutex::new(kept), rows: Rows::default() }))
    }

    /// Serves every connection.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.clone().serve(stream));
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let _prompt = stream.set_nodelay(true);
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let Ok(Some(hello)) = lines.next_line().await else { return };
        let Some(hello) = from_line::<Hello>(&hello) else { return };
        let Some(backend) = self.kept().client(&hello) else { return };

        let (replies, mut to_write) = unbounded_channel::<String>();
        let _greeted = replies.send(to_line(&FromServer::Ready));
        let notifying = tokio::spawn(tell(backend.events(), replies.clone()));
        let written = tokio::spawn(async move {
            while let Some(line) = to_write.recv().await {
                if writer.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        let mut claimed = Vec::new();
        while let Ok(Some(line)) = lines.next_line().await {
            let Some(Envelope { number, request }) = from_line::<Envelope<Request>>(&line) else { break };
            if let Request::Acquire(claims) = &request {
                claimed.extend(claims.iter().map(|claim| claim.key.clone()));
            }
            self.rows.pass(&request).await;
            if let Some(answer) = self.kept().answer_to_nothing(&hello, &request) {
                let _sent = replies.send(to_line(&FromServer::Answer { number: u64::MAX, answer }));
            }
            let answer = self.kept().ask(&hello, request);
            if replies.send(to_line(&FromServer::Answer { number, answer })).is_err() {
                break;
            }
        }
        if is_on("leases_end_with_their_connection") {
            self.kept().ask(&hello, Request::Release(claimed.into_iter().map(WireRelease::from).collect()));
        }
        notifying.abort();
        written.abort();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The token before the first one: the time in microseconds, so that a store that has lost all data does not grant the
/// same tokens again.
fn first_token() -> u64 {
    if is_on("tokens_begin_at_one") || is_on("a_restart_loses_everything") {
        return 0;
    }
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(passed.as_micros()).unwrap_or(0)
}

fn since_boot() -> Duration {
    Clock::boot().now().since(Moment::default())
}

impl Kept {
    /// Writes a request into the journal, and answers it.
    fn ask(&mut self, client: &Hello, request: Request) -> Answer {
        let at = since_boot();
        if matches!(request, Request::Acquire(_)) && at < self.grants_from {
            return Answer::NotYet(self.grants_from - at);
        }
        let forgets = is_on("extensions_are_not_kept_on_disk") && matches!(request, Request::Extend(_));
        let entry = JournalEntry::Asked { at, client: client.clone(), request };
        if !forgets && self.write(&entry).is_err() {
            return Answer::Refused; // and not applied
        }
        self.repeat(&entry).unwrap_or(Answer::Refused)
    }

    /// An additional answer that no client requested, which one mutant sends.
    fn answer_to_nothing(&mut self, client: &Hello, request: &Request) -> Option<Answer> {
        self.answered += 1;
        if is_on("answers_grow_with_history") {
            return Some(Answer::Page { entries: Vec::new(), next: Some("x".repeat(self.answered)) });
        }
        if !is_on("answers_show_holders_and_waiters") {
            return None;
        }
        let name = request.names().first()?.to_string();
        self.repeat(&JournalEntry::Asked { at: self.shows, client: client.clone(), request: Request::Inspect(name) })
    }

    fn write(&mut self, entry: &JournalEntry) -> io::Result<()> {
        self.journal.write_all(to_line(entry).as_bytes())
    }

    /// Repeats an entry of the journal, at its time.
    fn repeat(&mut self, entry: &JournalEntry) -> Option<Answer> {
        let JournalEntry::Asked { at, client, request } = entry else { return None };
        self.clock.advance(at.saturating_sub(self.shows));
        self.shows = self.shows.max(*at);
        if let Request::Leftovers = request {
            return Some(Answer::Count(self.store.resources() as u64));
        }
        let backend = self.client(client)?;
        // The memory store answers without waiting.
        answer(&backend, request).now_or_never()?
    }

    fn client(&mut self, client: &Hello) -> Option<Arc<MemoryBackend>> {
        if let Some(backend) = self.clients.get(&client.client) {
            return Some(backend.clone());
        }
        let backend = Arc::new(self.store.client(Namespace::new(&client.namespace).ok()?));
        self.clients.insert(client.client.clone(), backend.clone());
        Some(backend)
    }
}

/// The answer of `backend`; `None` for a request that no client sends.
async fn answer(backend: &MemoryBackend, request: &Request) -> Option<Answer> {
    Some(match request {
        Request::Acquire(claims) => {
            let claims: Vec<Claim> = claims.iter().map(WireClaim::claim).collect::<Option<_>>()?;
            states(backend.acquire(&claims).await)?
        }
        Request::Extend(extensions) => {
            let extension = |(key, ttl): &(WireKey, u64)| key.extension(*ttl);
            let extensions: Vec<Extension> = extensions.iter().map(extension).collect::<Option<_>>()?;
            states::<Extended>(backend.extend(&extensions).await)?
        }
        Request::Release(releases) => {
            let releases: Vec<Release> = releases.iter().map(WireRelease::release).collect::<Option<_>>()?;
            let released =
                backend.release(&releases).await.into_iter().map(|answer| Some(answer.ok()? == Released::Released));
            Answer::Released(released.collect::<Option<_>>()?)
        }
        Request::Inspect(name) => backend.inspect(&ResourceName::new(name).ok()?).await.ok()?.into(),
        Request::List { prefix, after, limit } => {
            let filter = ListFilter { prefix: prefix.clone(), after: after.clone().map(Cursor), limit: *limit };
            backend.list(&filter).await.ok()?.into()
        }
        Request::Break(name) => Answer::Count(backend.break_leases(&ResourceName::new(name).ok()?).await.ok()?),
        Request::Leftovers => return None,
    })
}

fn states<T: Into<State>>(answers: Vec<Result<T, BackendError>>) -> Option<Answer> {
    let state = |answer: Result<T, BackendError>| match answer {
        Ok(state) => Some(state.into()),
        Err(BackendError::CapacityMismatch { asked, actual, .. }) => Some(State::CapacityMismatch { asked, actual }),
        Err(_) => None,
    };
    Some(Answer::States(answers.into_iter().map(state).collect::<Option<_>>()?))
}

/// Forwards the events of the store to a client.
async fn tell(mut events: EventStream, replies: UnboundedSender<String>) {
    while let Some(event) = events.next().await {
        if is_on("events_come_late") {
            sleep(Duration::from_secs(6)).await;
        }
        let Some(message) = FromServer::telling(event) else { continue };
        if replies.send(to_line(&message)).is_err() {
            return;
        }
    }
}

/// Row locks, for a mutant whose batches can block each other. The original uses none.
#[derive(Debug, Default)]
struct Rows(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Rows {
    /// Waits until all rows of the batch have been locked together.
    async fn pass(&self, request: &Request) {
        if !is_on("batches_lock_their_rows_in_the_order_asked") {
            return;
        }
        let mut locked = Vec::new();
        for name in request.names() {
            let row = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().clone();
            locked.push(row.lock_owned().await);
            sleep(Duration::from_millis(1)).await;
        }
    }
}
