//! The messages on the wire, each a line of JSON.

use std::sync::Arc;
use std::time::Duration;

use rlock_core::{
    Acquired, Claim, Cursor, Entry, Event, Extended, Extension, Grant, Holder, IfBusy, LeaseData, LeaseId, LeaseKey,
    Owner, Page, Place, Release, ResourceName, Share, Snapshot, Token, Ttl, Waiter,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The first line of a connection. A client uses the same name on all its connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) client: String,
    pub(crate) namespace: String,
}

/// A request, and the number that its answer repeats.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope<R> {
    pub(crate) number: u64,
    pub(crate) request: R,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Acquire(Vec<WireClaim>),
    Extend(Vec<(WireKey, u64)>),
    Release(Vec<WireRelease>),
    Inspect(String),
    List { prefix: String, after: Option<String>, limit: usize },
    Break(String),
    Leftovers,
}

impl Request {
    /// The resources of a batch.
    pub(crate) fn names(&self) -> Vec<&str> {
        match self {
            Self::Acquire(claims) => claims.iter().map(|claim| claim.key.name()).collect(),
            Self::Extend(extensions) => extensions.iter().map(|(key, _)| key.name()).collect(),
            Self::Release(releases) => releases.iter().map(|release| release.key.name()).collect(),
            _ => Vec::new(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromServer {
    /// The answer to a [`Hello`].
    Ready,
    Answer {
        number: u64,
        answer: Answer,
    },
    Granted(String, u64),
    Broken(String),
}

/// The answer to one request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    States(Vec<State>),
    Released(Vec<bool>),
    Snapshot {
        capacity: Option<u32>,
        holders: Vec<Seen>,
        queue: Vec<Seen>,
        rest: Option<Duration>,
    },
    Page {
        entries: Vec<(String, u64, u64)>,
        next: Option<String>,
    },
    Count(u64),
    /// The server grants nothing for this time.
    NotYet(Duration),
    /// The request could not be parsed.
    Refused,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum State {
    Held { token: u64, ttl: Duration },
    Queued { ahead: u64, ask_again: Duration },
    Busy,
    Gone { taken: bool },
    CapacityMismatch { asked: u32, actual: u32 },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WireKey(String, String);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireRelease {
    pub(crate) key: WireKey,
    rest: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireClaim {
    pub(crate) key: WireKey,
    weight: u32,
    capacity: u32,
    ttl: u64,
    queues: bool,
    owner: String,
    data: Option<Vec<u8>>,
}

/// A lease in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    owner: String,
    token: u64,
    weight: u32,
    passed: Duration,
    remaining: Duration,
    data: Option<Vec<u8>>,
}

pub(crate) fn to_line(message: &impl Serialize) -> String {
    let mut line = serde_json::to_string(message).expect("all keys are strings");
    line.push('\n');
    line
}

/// Parses a line; `None` if it is not such a message.
pub(crate) fn from_line<T: DeserializeOwned>(line: &str) -> Option<T> {
    serde_json::from_str(line).ok()
}

impl WireKey {
    pub(crate) fn key(&self) -> Option<LeaseKey> {
        Some(LeaseKey { resource: ResourceName::new(&self.0).ok()?, id: LeaseId::from_hex(&self.1)? })
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    pub(crate) fn extension(&self, ttl: u64) -> Option<Extension> {
        Some(Extension { key: self.key()?, ttl: Ttl::new(Duration::from_millis(ttl)).ok()? })
    }
}

impl From<&LeaseKey> for WireKey {
    fn from(key: &LeaseKey) -> Self {
        Self(key.resource.to_string(), key.id.to_hex())
    }
}

impl From<&Release> for WireRelease {
    fn from(release: &Release) -> Self {
        Self { key: WireKey::from(&release.key), rest: release.rest }
    }
}

impl From<WireKey> for WireRelease {
    fn from(key: WireKey) -> Self {
        Self { key, rest: Duration::ZERO }
    }
}

impl WireRelease {
    pub(crate) fn release(&self) -> Option<Release> {
        Some(Release { key: self.key.key()?, rest: self.rest })
    }
}

fn bytes_of(data: Option<LeaseData>) -> Option<Vec<u8>> {
    data.map(|data| data.as_bytes().to_vec())
}

fn data_of(bytes: Option<&Vec<u8>>) -> Option<LeaseData> {
    LeaseData::new(bytes?).ok()
}

impl From<&Claim> for WireClaim {
    fn from(claim: &Claim) -> Self {
        Self {
            key: WireKey::from(&claim.key),
            weight: claim.share.weight(),
            capacity: claim.share.capacity(),
            ttl: claim.ttl.as_millis(),
            queues: claim.if_busy == IfBusy::Queue,
            owner: claim.owner.to_record(),
            data: bytes_of(claim.data.clone()),
        }
    }
}

impl WireClaim {
    pub(crate) fn claim(&self) -> Option<Claim> {
        Some(Claim {
            key: self.key.key()?,
            share: Share::new(self.weight, self.capacity).ok()?,
            ttl: Ttl::new(Duration::from_millis(self.ttl)).ok()?,
            if_busy: if self.queues { IfBusy::Queue } else { IfBusy::Refuse },
            owner: Arc::new(Owner::from_record(&self.owner)),
            data: data_of(self.data.as_ref()),
        })
    }
}

impl From<Acquired> for State {
    fn from(acquired: Acquired) -> Self {
        match acquired {
            Acquired::Held(Grant { token, ttl }) => Self::Held { token: token.get(), ttl },
            Acquired::Queued(Place { ahead, ask_again }) => Self::Queued { ahead, ask_again },
            Acquired::Busy => Self::Busy,
        }
    }
}

impl From<Extended> for State {
    fn from(extended: Extended) -> Self {
        match extended {
            Extended::Held(grant) => Acquired::Held(grant).into(),
            Extended::Queued(place) => Acquired::Queued(place).into(),
            Extended::Gone { taken } => Self::Gone { taken },
        }
    }
}

impl State {
    /// The answer to a claim.
    pub(crate) fn acquired(&self) -> Option<Acquired> {
        match *self {
            Self::Held { token, ttl } => Some(Acquired::Held(Grant { token: Token::new(token), ttl })),
            Self::Queued { ahead, ask_again } => Some(Acquired::Queued(Place { ahead, ask_again })),
            Self::Busy => Some(Acquired::Busy),
            Self::Gone { .. } | Self::CapacityMismatch { .. } => None,
        }
    }

    /// The answer to an extension.
    pub(crate) fn extended(&self) -> Option<Extended> {
        match (self, self.acquired()) {
            (_, Some(Acquired::Held(grant))) => Some(Extended::Held(grant)),
            (_, Some(Acquired::Queued(place))) => Some(Extended::Queued(place)),
            (&Self::Gone { taken }, _) => Some(Extended::Gone { taken }),
            _ => None,
        }
    }
}

impl From<Snapshot> for Answer {
    fn from(snapshot: Snapshot) -> Self {
        let holder = |it: Holder| Seen {
            owner: it.owner.to_record(),
            token: it.token.get(),
            weight: it.weight,
            passed: it.held_for,
            remaining: it.remaining,
            data: bytes_of(it.data),
        };
        let waiter = |it: Waiter| Seen {
            owner: it.owner.to_record(),
            token: 0,
            weight: it.weight,
            passed: it.waiting_for,
            remaining: it.remaining,
            data: bytes_of(it.data),
        };
        Self::Snapshot {
            capacity: snapshot.capacity,
            holders: snapshot.holders.into_iter().map(holder).collect(),
            queue: snapshot.queue.into_iter().map(waiter).collect(),
            rest: snapshot.rest,
        }
    }
}

impl From<Page> for Answer {
    fn from(page: Page) -> Self {
        let entry = |it: Entry| (it.resource.to_string(), it.holders, it.waiters);
        Self::Page {
            entries: page.entries.into_iter().map(entry).collect(),
            next: page.next.map(|Cursor(after)| after),
        }
    }
}

impl Answer {
    /// The snapshot of `resource`; `None` for another answer.
    pub(crate) fn snapshot(self, resource: ResourceName) -> Option<Snapshot> {
        let Self::Snapshot { capacity, holders, queue, rest } = self else { return None };
        let holder = |it: Seen| Holder {
            owner: Owner::from_record(&it.owner),
            token: Token::new(it.token),
            weight: it.weight,
            held_for: it.passed,
            remaining: it.remaining,
            data: data_of(it.data.as_ref()),
        };
        let waiter = |it: Seen| Waiter {
            owner: Owner::from_record(&it.owner),
            weight: it.weight,
            waiting_for: it.passed,
            remaining: it.remaining,
            data: data_of(it.data.as_ref()),
        };
        Some(Snapshot {
            resource,
            capacity,
            holders: holders.into_iter().map(holder).collect(),
            queue: queue.into_iter().map(waiter).collect(),
            rest,
        })
    }

    /// The page; `None` for another answer.
    pub(crate) fn page(self) -> Option<Page> {
        let Self::Page { entries, next } = self else { return None };
        let entry = |(name, holders, waiters): (String, u64, u64)| {
            Some(Entry { resource: ResourceName::new(name).ok()?, holders, waiters })
        };
        Some(Page { entries: entries.into_iter().map(entry).collect::<Option<_>>()?, next: next.map(Cursor) })
    }
}

impl FromServer {
    /// The event; `None` for an answer.
    pub(crate) fn event(&self) -> Option<Event> {
        match self {
            Self::Granted(id, token) => Some(Event::Granted { id: LeaseId::from_hex(id)?, token: Token::new(*token) }),
            Self::Broken(id) => Some(Event::Broken { id: LeaseId::from_hex(id)? }),
            Self::Ready | Self::Answer { .. } => None,
        }
    }

    /// The message for an event; `None` for an event that the store never sends.
    pub(crate) fn telling(event: Event) -> Option<Self> {
        match event {
            Event::Granted { id, token } => Some(Self::Granted(id.to_hex(), token.get())),
            Event::Broken { id } => Some(Self::Broken(id.to_hex())),
            _ => None,
        }
    }
}
