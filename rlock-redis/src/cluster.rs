//! The primaries of a Redis Cluster, and the buckets that they serve.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use rlock_core::{Cause, Events};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::RedisConfig;
use crate::address::Address;
use crate::advice::IS_NO_CLUSTER;
use crate::client::Endpoint;
use crate::conn::Conn;
use crate::connect::{Connector, Server};
use crate::error::CallError;
use crate::keys::{BUCKETS, Keys};
use crate::primary::Primary;
use crate::silent_spell::SUSPICIOUS;
use crate::stragglers::{without_few_stragglers, without_stragglers};
use crate::view::View;
use crate::wire::Args;

/// The interval of reading the slots while nothing fails.
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);
/// The interval while a primary is unreachable or a slot has no primary.
const WHILE_BROKEN: Duration = Duration::from_millis(250);
/// The minimum interval.
const AT_MOST_EVERY: Duration = Duration::from_millis(50);
/// The time that nodes have after the answer of another one. A node that hangs delays a new client by no more.
pub(crate) const AFTER_ANOTHER: Duration = Duration::from_secs(2);
/// The time that primaries have after the answers of most of them. A lost one delays the next look by no more, and a
/// connection that has died unnoticed is suspected within it.
const AFTER_MOST: Duration = SUSPICIOUS.saturating_add(Duration::from_millis(100));
/// The time limit for the answer of a node.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// A Redis Cluster.
///
/// Its map of slots comes from the answers of all primaries to `CLUSTER SLOTS`; where they differ, the majority
/// decides. It is read again when a request fails, while a primary is unreachable, and every ten seconds.
#[derive(Debug)]
pub(crate) struct Cluster {
    inner: Arc<Inner>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Inner {
    config: Arc<RedisConfig>,
    keys: Keys,
    slots: RwLock<SlotMap>,
    primaries: watch::Sender<Vec<Address>>,
    is_stale: Arc<Notify>,
    events: Events,
    doubted: Arc<Notify>,
}

#[derive(Debug, Default)]
struct SlotMap {
    primaries: BTreeMap<Address, Arc<Primary>>,
    /// The primary of each bucket.
    buckets: Vec<Option<Arc<Primary>>>,
    replicas: Vec<Address>,
    /// The nodes that take over slots, and the time of the last request to each.
    importing: BTreeMap<Address, (Arc<Primary>, Instant)>,
}

impl Cluster {
    /// Reads the slots from the nodes at `seeds`, and connects to the primaries.
    pub(crate) async fn open(
        config: Arc<RedisConfig>,
        seeds: &[Address],
        keys: Keys,
        events: Events,
        doubted: Arc<Notify>,
    ) -> Result<Self, CallError> {
        let slots = RwLock::new(SlotMap { buckets: vec![None; BUCKETS.into()], ..SlotMap::default() });
        let (primaries, is_stale) = (watch::Sender::new(Vec::new()), Arc::new(Notify::new()));
        let inner = Arc::new(Inner { config, keys, slots, primaries, is_stale, events, doubted });
        let (views, errors) = inner.views_by_address(seeds, inner.config.connect_timeout).await;
        if views.is_empty() {
            return Err(none_answered(errors));
        }
        inner.install(View::majority(&views));
        let limit = inner.config.connect_timeout;
        let primaries = inner.primaries();
        let opening = primaries.iter().enumerate();
        let opening = opening.map(|(number, primary)| async move { (number, primary.opened(limit).await) });
        let opened = without_stragglers(opening.collect(), AFTER_ANOTHER, Result::is_ok).await;
        if !opened.iter().flatten().any(Result::is_ok) {
            return Err(opened.into_iter().flatten().find_map(Result::err).unwrap_or_else(no_primary));
        }
        let task = JoinSet::from_iter([keep(Arc::downgrade(&inner), inner.is_stale.clone())]);
        Ok(Self { inner, _task: task })
    }

    /// The primaries that serve a bucket, or did so until a moment ago.
    pub(crate) fn primaries(&self) -> Vec<Arc<Primary>> {
        self.inner.primaries()
    }

    /// The addresses of the primaries, as they change.
    pub(crate) fn addresses(&self) -> watch::Receiver<Vec<Address>> {
        self.inner.primaries.subscribe()
    }

    /// The primary that serves a bucket.
    pub(crate) fn primary_of(&self, bucket: u16) -> Result<Arc<Primary>, CallError> {
        let slots = self.inner.slots.read().unwrap_or_else(PoisonError::into_inner);
        let found = slots.buckets[usize::from(bucket)].clone();
        drop(slots);
        found.ok_or_else(|| {
            self.look_again();
            let slot = self.inner.keys.slot(bucket);
            CallError::Unsent(Cause::new(format!("no node of the cluster is known to serve the slot {slot}")))
        })
    }

    /// The buckets that a primary serves, as far as is known.
    pub(crate) fn buckets_of(&self, primary: &Arc<Primary>) -> Vec<u16> {
        let slots = self.inner.slots.read().unwrap_or_else(PoisonError::into_inner);
        let is_its = |owner: &Option<Arc<Primary>>| owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, primary));
        (0..).zip(&slots.buckets).filter(|(_, owner)| is_its(owner)).map(|(bucket, _)| bucket).collect()
    }

    /// Notes the answer `MOVED`, and returns the primary that it names.
    pub(crate) fn moved(&self, bucket: u16, address: &Address) -> Arc<Primary> {
        let mut slots = self.inner.slots.write().unwrap_or_else(PoisonError::into_inner);
        let connect = || self.inner.connect(address.clone(), bucket, &self.inner.events);
        let primary = slots.primaries.entry(address.clone()).or_insert_with(connect).clone();
        slots.buckets[usize::from(bucket)] = Some(primary.clone());
        drop(slots);
        self.look_again();
        primary
    }

    /// The node that takes over a bucket, from the answer `ASK`.
    pub(crate) fn importing(&self, bucket: u16, address: &Address) -> Arc<Primary> {
        let mut slots = self.inner.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(primary) = slots.primaries.get(address) {
            return primary.clone();
        }
        // No events were missed there, so the connection reports none.
        let connect = || (self.inner.connect(address.clone(), bucket, &Events::default()), Instant::now());
        let (primary, asked) = slots.importing.entry(address.clone()).or_insert_with(connect);
        *asked = Instant::now();
        primary.clone()
    }

    /// Returns when a primary no longer serves or takes over a bucket.
    pub(crate) async fn left(&self, primary: &Arc<Primary>) {
        let mut changes = self.inner.primaries.subscribe();
        while self.inner.has(primary) {
            if changes.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Has the slots read again.
    pub(crate) fn look_again(&self) {
        self.inner.is_stale.notify_one();
    }
}

impl Inner {
    fn primaries(&self) -> Vec<Arc<Primary>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).primaries.values().cloned().collect()
    }

    /// Whether a primary serves a bucket, or takes one over.
    fn has(&self, primary: &Arc<Primary>) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let importing = slots.importing.values().map(|(primary, _)| primary);
        slots.primaries.values().chain(importing).any(|known| Arc::ptr_eq(known, primary))
    }

    fn connect(&self, address: Address, bucket: u16, events: &Events) -> Arc<Primary> {
        let connector = Connector {
            config: self.config.clone(),
            server: Server::At(address),
            mark: Some(self.keys.mark(bucket).into()),
        };
        Arc::new(Primary::new(connector, None, events, &self.doubted))
    }

    /// Asks the primaries for their views, and the owners that these name; if no primary answers, asks all known nodes.
    async fn look(&self) {
        let primaries = self.primaries();
        let asked = primaries.iter().enumerate();
        let asked = asked.map(|(number, primary)| async move { (number, self.ask_primary(primary).await) });
        let asked = without_few_stragglers(asked.collect(), AFTER_MOST, Result::is_ok).await;
        let mut views: Vec<_> = asked.into_iter().flatten().flatten().collect();
        if views.is_empty() {
            let known = {
                let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
                slots.primaries.keys().chain(&slots.replicas).cloned().collect::<Vec<_>>()
            };
            let seeds = self.config.seeds().iter().filter(|seed| !known.contains(seed));
            let all: Vec<_> = known.iter().chain(seeds).cloned().collect();
            views = self.views_by_address(&all, ANSWERS_WITHIN).await.0;
        } else {
            // A node that has left all its slots is no primary here, and the others may still name it.
            let is_asked = |owner: &Address| primaries.iter().any(|primary| primary.address() == owner);
            let owners: BTreeSet<_> = views.iter().flat_map(|(_, view)| view.owners.iter().flatten()).collect();
            let unasked: Vec<_> = owners.into_iter().filter(|&owner| !is_asked(owner)).cloned().collect();
            views.extend(self.views_by_address(&unasked, ANSWERS_WITHIN).await.0);
        }
        if !views.is_empty() {
            self.install(View::majority(&views));
        }
    }

    async fn views_by_address(&self, addresses: &[Address], limit: Duration) -> (Vec<(Address, View)>, Vec<CallError>) {
        let (mut views, mut errors) = (Vec::new(), Vec::new());
        let asked = addresses.iter().enumerate().map(|(number, address)| {
            let asked = self.ask_at(address, limit);
            async move { (number, asked.await) }
        });
        let answers = without_stragglers(asked.collect(), AFTER_ANOTHER, Result::is_ok).await;
        for answer in answers.into_iter().flatten() {
            match answer {
                Ok(view) => views.push(view),
                Err(error) => errors.push(error),
            }
        }
        (views, errors)
    }

    /// Asks a primary, over a new connection if its own one is lost: the answer may say why.
    async fn ask_primary(&self, primary: &Primary) -> Result<(Address, View), CallError> {
        match primary.commands() {
            Ok(conn) => self.ask(&conn).await,
            Err(_lost) => self.ask_at(primary.address(), ANSWERS_WITHIN).await,
        }
    }

    async fn ask_at(&self, address: &Address, limit: Duration) -> Result<(Address, View), CallError> {
        let asked = async {
            let (conn, _driver) = Conn::open(&Endpoint::of_node(&self.config, address)).await?;
            self.ask(&conn).await
        };
        let late = |_elapsed| Err(CallError::Unsent(Cause::new(format!("no answer within {limit:?}"))));
        timeout(limit, asked).await.unwrap_or_else(late).map_err(|error| error.about(address))
    }

    async fn ask(&self, conn: &Conn) -> Result<(Address, View), CallError> {
        let mut args = Args::default();
        args.fixed("SLOTS");
        let reply = match timeout(ANSWERS_WITHIN, conn.command("CLUSTER", args)).await {
            Ok(Err(CallError::Refused(text))) if text.contains("cluster support disabled") => {
                return Err(CallError::Unfit(IS_NO_CLUSTER.into()));
            }
            Ok(reply) => reply?,
            Err(_elapsed) => return Err(CallError::Unsent(Cause::new("no answer"))),
        };
        let reached = |announced| self.config.reached(announced);
        View::read(&reply, conn.address(), reached, |slot| self.keys.bucket_of_slot(slot))
            .map(|view| (conn.address().clone(), view))
            .ok_or_else(|| CallError::Refused(format!("{reply:?} to CLUSTER SLOTS")))
    }

    fn install(&self, view: View) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let mut primaries = BTreeMap::new();
        for (bucket, owner) in (0..).zip(view.owners) {
            // A bucket without an owner gets no requests: the client library drops a connection at their refusal.
            let primary = owner.map(|address| {
                let known = primaries.get(&address).or_else(|| slots.primaries.get(&address)).cloned();
                let primary = known.unwrap_or_else(|| self.connect(address.clone(), bucket, &self.events));
                primaries.insert(address, primary.clone());
                primary
            });
            slots.buckets[usize::from(bucket)] = primary;
        }
        slots.replicas = view.replicas;
        let gone = std::mem::replace(&mut slots.primaries, primaries);
        slots.importing.retain(|_, (_, asked)| asked.elapsed() < BETWEEN_LOOKS);
        let addresses: Vec<_> = slots.primaries.keys().cloned().collect();
        drop(slots);
        drop(gone); // their connections close
        self.primaries.send_if_modified(|known| {
            let is_new = *known != addresses;
            *known = addresses;
            is_new
        });
    }

    fn is_whole(&self) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.buckets.iter().all(Option::is_some) && slots.primaries.values().all(|primary| primary.is_open())
    }
}

async fn keep(inner: Weak<Inner>, is_stale: Arc<Notify>) {
    loop {
        let Some(is_whole) = inner.upgrade().map(|inner| inner.is_whole()) else { return };
        let pause = if is_whole { BETWEEN_LOOKS } else { WHILE_BROKEN };
        let _whichever_is_first = timeout(pause, is_stale.notified()).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.look().await;
        sleep(AT_MOST_EVERY).await;
    }
}

fn none_answered(errors: Vec<CallError>) -> CallError {
    if errors.iter().all(|error| matches!(error, CallError::Unsent(_) | CallError::Unanswered(_))) {
        let all = errors.iter().map(CallError::to_string).collect::<Vec<_>>().join("; ");
        return CallError::Unsent(Cause::new(format!("no node of the cluster answers: {all}")));
    }
    let lasting = |error: &CallError| matches!(error, CallError::Refused(_) | CallError::Unfit(_));
    errors.into_iter().find(lasting).expect("not all of them pass")
}

fn no_primary() -> CallError {
    CallError::Unsent(Cause::new(
        "no node of the cluster serves a slot: give it slots, as redis-cli --cluster create does",
    ))
}
