//! Events from the servers: one stream, on which this client watches the keys of its leases and the keys in front of
//! its waiters.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, WatchFilterType, WatchOptions, WatchRequestSender, WatchResponse, WatchStream};
use rlock_core::LeaseId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::conn::Conn;
use crate::error::{CallError, Kind};
use crate::line::Seat;
use crate::link::Link;

/// How long a stream may take to open before its connection is probed.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause before the keys of a lease are watched again after the server cancelled one of its watches.
const WATCHED_AGAIN: Duration = Duration::from_millis(200);
/// The pause before a broken stream is replaced.
const PAUSE: Duration = Duration::from_millis(20);

/// A change of what to watch for a lease.
#[derive(Debug)]
pub(crate) enum Command {
    /// Watch the key of the lease, and the keys of which one has to go before the lease can be held.
    Watch { id: LeaseId, seat: Seat, key: String, blockers: Vec<String>, read_at: i64 },
    /// This client no longer uses the lease.
    Forget(LeaseId),
}

/// An observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// A lease in front of this one has gone, or may have.
    Changed(LeaseId),
    /// This key of the lease is gone, as of that revision.
    Gone(LeaseId, Seat, i64),
    /// Events may have been missed before this.
    Resync,
}

/// The task that owns the stream.
pub(crate) struct Watcher {
    link: Arc<Link>,
    commands: UnboundedReceiver<Command>,
    sights: UnboundedSender<Sight>,
    next_id: i64,
    /// The watches of each lease.
    leases: HashMap<LeaseId, Watched>,
    /// The lease and the purpose of each watch.
    watches: HashMap<i64, (LeaseId, Purpose)>,
    /// Leases of which a watch was cancelled, in the order of the time to watch them again.
    again: VecDeque<(Instant, LeaseId)>,
    /// Requests to send to the server.
    outbox: VecDeque<Ask>,
}

#[derive(Debug, Default)]
struct Watched {
    own: Option<i64>,
    blockers: Vec<(String, i64)>,
}

#[derive(Debug, Clone, Copy)]
enum Purpose {
    /// The key of the lease itself.
    Own(Seat),
    /// A key that existed at this revision.
    Blocker(i64),
}

#[derive(Debug, Clone)]
enum Ask {
    Watch { id: i64, key: String, from: i64 },
    Cancel(i64),
}

impl Watcher {
    pub(crate) fn new(link: Arc<Link>, commands: UnboundedReceiver<Command>, sights: UnboundedSender<Sight>) -> Self {
        Self {
            link,
            commands,
            sights,
            next_id: FIRST_ID,
            leases: HashMap::new(),
            watches: HashMap::new(),
            again: VecDeque::new(),
            outbox: VecDeque::new(),
        }
    }

    /// Watches until the client is dropped. A stream that ends is replaced; then core has to look for what happened
    /// meanwhile.
    pub(crate) async fn run(mut self) {
        let mut before = false;
        loop {
            let conn = self.link.another(None).await;
            let end = tokio::select! {
                end = self.serve(&conn, &mut before) => end,
                () = conn.ended() => Ok(()),
            };
            match end {
                Err(error) if error.kind == Kind::Broken => conn.give_up(),
                _ => self.link.doubt(),
            }
            self.watches.clear();
            self.outbox.clear();
            self.leases.clear();
            self.again.clear();
            sleep(PAUSE).await;
        }
    }

    async fn serve(&mut self, conn: &Conn, before: &mut bool) -> Result<(), CallError> {
        let stream = match timeout(PATIENCE, open(conn)).await {
            Ok(opened) => opened?,
            Err(_elapsed) => return Ok(()),
        };
        let (mut requests, mut responses) = stream.split();
        if std::mem::replace(before, true) {
            tracing::info!(endpoint = %conn.endpoint, "watching etcd again");
            self.see(Sight::Resync);
        }
        loop {
            let again = self.again.front().map(|(at, _)| *at);
            tokio::select! {
                response = responses.message() => match response? {
                    // The server no longer accepts the auth token that the stream was opened with.
                    Some(response) if response.canceled() && response.watch_id() < 0 => {
                        return Err(CallError::new(Kind::Broken, response.cancel_reason()));
                    }
                    Some(response) => self.hear(&response),
                    None => return Ok(()),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => std::future::pending().await,
                },
                sent = send(&mut requests, self.outbox.front()), if !self.outbox.is_empty() => {
                    sent?;
                    self.outbox.pop_front();
                }
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => self.watch_again(),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Watch { id, seat, key, blockers, read_at } => {
                if self.leases.entry(id).or_default().own.is_none() {
                    self.watch_own(id, seat, key, read_at);
                }
                self.watch_blockers(id, blockers, read_at);
            }
            Command::Forget(id) => {
                if let Some(watched) = self.leases.remove(&id) {
                    let blockers = watched.blockers.into_iter().map(|(_, watch)| watch);
                    watched.own.into_iter().chain(blockers).for_each(|watch| self.cancel(watch));
                }
            }
        }
    }

    /// Forgets the watches of a lease of which one was cancelled. The next look at the lease creates them again.
    fn watch_again(&mut self) {
        let Some((_, id)) = self.again.pop_front() else { return };
        if !self.leases.contains_key(&id) {
            return;
        }
        self.obey(Command::Forget(id));
        self.see(Sight::Changed(id));
    }

    fn watch_own(&mut self, id: LeaseId, seat: Seat, key: String, read_at: i64) {
        // If others have written since, this watch lags a while; but no request waits for it.
        let watch = self.watch(id, Purpose::Own(seat), key, read_at + 1);
        self.leases.entry(id).or_default().own = Some(watch);
    }

    fn watch_blockers(&mut self, id: LeaseId, keys: Vec<String>, read_at: i64) {
        let before = std::mem::take(&mut self.leases.entry(id).or_default().blockers);
        let (kept, over): (Vec<_>, Vec<_>) = before.into_iter().partition(|(key, _)| keys.contains(key));
        over.into_iter().for_each(|(_, watch)| self.cancel(watch));
        let is_new = |key: &String| !kept.iter().any(|(known, _)| known == key);
        let new: Vec<_> = keys.into_iter().filter(is_new).collect();
        let mut blockers = kept;
        for key in new {
            // A watch from now on is prompt. The revision in its answer shows whether anything has happened since the
            // key was read.
            let watch = self.watch(id, Purpose::Blocker(read_at), key.clone(), 0);
            blockers.push((key, watch));
        }
        self.leases.entry(id).or_default().blockers = blockers;
    }

    fn watch(&mut self, lease: LeaseId, purpose: Purpose, key: String, from: i64) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        self.watches.insert(id, (lease, purpose));
        self.outbox.push_back(Ask::Watch { id, key, from });
        id
    }

    fn cancel(&mut self, watch: i64) {
        self.watches.remove(&watch);
        let asked = self.outbox.iter().position(|ask| matches!(ask, Ask::Watch { id, .. } if *id == watch));
        match asked {
            Some(at) => drop(self.outbox.remove(at)),
            None => self.outbox.push_back(Ask::Cancel(watch)),
        }
    }

    fn hear(&mut self, response: &WatchResponse) {
        let Some(&(lease, purpose)) = self.watches.get(&response.watch_id()) else { return };
        let revision = response.header().map_or(0, etcd_client::ResponseHeader::revision);
        if response.canceled() {
            // Its start is compacted, or the user may not watch the key.
            tracing::debug!(reason = response.cancel_reason(), "a watch was cancelled");
            self.watches.remove(&response.watch_id());
            self.again.push_back((Instant::now() + WATCHED_AGAIN, lease));
            return;
        }
        if response.created() {
            if matches!(purpose, Purpose::Blocker(read_at) if revision > read_at) {
                self.see(Sight::Changed(lease));
            }
            return;
        }
        let deleted = response.events().iter().rev().find(|event| event.event_type() == EventType::Delete);
        let Some(deleted) = deleted else { return };
        let at = deleted.kv().map_or(revision, etcd_client::KeyValue::mod_revision);
        self.see(match purpose {
            Purpose::Own(seat) => Sight::Gone(lease, seat, at),
            Purpose::Blocker(_) => Sight::Changed(lease),
        });
    }

    fn see(&self, sight: Sight) {
        let _client_gone = self.sights.send(sight);
    }
}

/// The server assigns smaller ids.
const FIRST_ID: i64 = 1_000;

/// Opens a stream by a first watch, which is not used.
async fn open(conn: &Conn) -> Result<WatchStream, CallError> {
    let mut stream = conn.watch().watch(conn.keys().any(), None).await?;
    while stream.message().await?.is_some_and(|response| !response.created()) {}
    Ok(stream)
}

/// # Cancel safety
///
/// If the future is dropped, nothing was sent.
async fn send(requests: &mut WatchRequestSender, ask: Option<&Ask>) -> Result<(), CallError> {
    match ask.cloned() {
        Some(Ask::Watch { id, key, from }) => {
            let options = WatchOptions::new().with_watch_id(id).with_start_revision(from);
            Ok(requests.watch(key, Some(options.with_filters([WatchFilterType::NoPut]))).await?)
        }
        Some(Ask::Cancel(id)) => Ok(requests.cancel(id).await?),
        None => Ok(()),
    }
}
