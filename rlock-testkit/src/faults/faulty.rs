//! A backend whose requests and replies go astray.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, Event, EventStream, Extended, Extension, Failure, Finding,
    ListFilter, Page, Release, Released, ResourceName, Snapshot,
};
use tokio::sync::watch;
use tokio::time::sleep;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request reaches the store that much later.
    Delay(Duration),
    /// The request never reaches the store; the caller is told that it may have.
    DropRequest,
    /// The request takes effect, and the reply gets lost: the caller is told that it may have.
    DropReply,
    /// The request reaches the store twice, one right after the other; the caller gets the first reply.
    Duplicate,
    /// The caller is told at once that the request may have been applied, and it reaches the store that much later.
    Late(Duration),
}

/// The calls that faults can happen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// [`Backend::acquire`].
    Acquire,
    /// [`Backend::extend`].
    Extend,
    /// [`Backend::release`].
    Release,
}

/// How likely each fault is for a call, from 0 to 1. What is left of 1 goes well.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Odds {
    /// Of a [`Fault::Delay`], of up to [`longest_delay`](Self::longest_delay).
    pub delay: f64,
    /// The longest delay.
    pub longest_delay: Duration,
    /// Of a [`Fault::DropRequest`].
    pub drop_request: f64,
    /// Of a [`Fault::DropReply`].
    pub drop_reply: f64,
    /// Of a [`Fault::Duplicate`].
    pub duplicate: f64,
}

/// Decides what goes wrong. Its clones decide for the same backends.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    seeded: Option<(u64, Odds)>,
    decided: Mutex<[Decided; 3]>,
    events_get_lost: watch::Sender<bool>,
    is_frozen: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Decided {
    calls: u64,
    /// For the calls that come next.
    next: VecDeque<Fault>,
    /// For all calls after those.
    all: Option<Fault>,
    happened: Vec<(u64, Fault)>,
}

impl Faults {
    /// Nothing goes wrong but what is asked for.
    pub fn none() -> Self {
        Self::new(None)
    }

    /// What goes wrong beside what is asked for follows from the seed: the fault of the n-th call of a verb depends on
    /// seed, verb and n alone, so that the same calls in the same order go the same way.
    pub fn seeded(seed: u64, odds: Odds) -> Self {
        Self::new(Some((seed, odds)))
    }

    fn new(seeded: Option<(u64, Odds)>) -> Self {
        let (events_get_lost, is_frozen) = (watch::Sender::new(false), watch::Sender::new(false));
        Self(Arc::new(Shared { seeded, decided: Mutex::default(), events_get_lost, is_frozen }))
    }

    /// The next call of `verb` goes like this; asked for several times, the next calls do, one after the other.
    pub fn next(&self, verb: Verb, fault: Fault) {
        self.decided()[verb as usize].next.push_back(fault);
    }

    /// All calls of `verb` go like this from now on.
    pub fn all(&self, verb: Verb, fault: Fault) {
        self.decided()[verb as usize].all = Some(fault);
    }

    /// Takes back what [`next`](Self::next) and [`all`](Self::all) asked for.
    pub fn clear(&self) {
        for decided in &mut *self.decided() {
            decided.next.clear();
            decided.all = None;
        }
    }

    /// The store stands still: no request reaches it until it is [thawed](Self::thaw). Then those that wait do,
    /// unless their callers have gone.
    pub fn freeze(&self) {
        self.0.is_frozen.send_replace(true);
    }

    /// Ends a [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.0.is_frozen.send_replace(false);
    }

    /// Whether events get lost from now on, without a [`Event::Resync`] after them.
    pub fn lose_events(&self, lose: bool) {
        self.0.events_get_lost.send_replace(lose);
    }

    /// How many calls of `verb` there were.
    pub fn calls(&self, verb: Verb) -> u64 {
        self.decided()[verb as usize].calls
    }

    /// What went wrong with calls of `verb`: which call, counted from 0, and how.
    pub fn happened(&self, verb: Verb) -> Vec<(u64, Fault)> {
        self.decided()[verb as usize].happened.clone()
    }

    fn decide(&self, verb: Verb) -> Option<Fault> {
        let decided = &mut self.decided()[verb as usize];
        let call = decided.calls;
        decided.calls += 1;
        let seeded = || self.0.seeded.and_then(|(seed, odds)| odds.draw(seed, verb, call));
        let fault = decided.next.pop_front().or(decided.all).or_else(seeded);
        decided.happened.extend(fault.map(|fault| (call, fault)));
        fault
    }

    fn decided(&self) -> MutexGuard<'_, [Decided; 3]> {
        self.0.decided.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call of `verb` about `count` leases as was decided.
    async fn run<T, C>(&self, verb: Verb, count: usize, call: impl Fn() -> C) -> Vec<Result<T, BackendError>>
    where
        C: Future<Output = Vec<Result<T, BackendError>>> + Send + 'static,
    {
        let fault = self.decide(verb);
        self.thawed().await;
        match fault {
            None => call().await,
            Some(Fault::Delay(delay)) => {
                sleep(delay).await;
                self.thawed().await;
                call().await
            }
            Some(Fault::DropRequest) => lost(verb, count, "the request was dropped on purpose"),
            Some(Fault::DropReply) => {
                call().await;
                lost(verb, count, "the reply was dropped on purpose")
            }
            Some(Fault::Duplicate) => {
                let answers = call().await;
                call().await;
                answers
            }
            Some(Fault::Late(delay)) => {
                let late = call();
                tokio::spawn(async move {
                    sleep(delay).await;
                    late.await;
                });
                lost(verb, count, "the request was delayed on purpose")
            }
        }
    }

    async fn thawed(&self) {
        let mut is_frozen = self.0.is_frozen.subscribe();
        is_frozen.wait_for(|is_frozen| !is_frozen).await.expect("its sender is in self");
    }
}

impl Odds {
    fn draw(&self, seed: u64, verb: Verb, call: u64) -> Option<Fault> {
        // Odd factors, so that no two calls share a seed; which ones does not matter.
        let mixed =
            seed ^ (verb as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ call.wrapping_mul(0xd1b5_4a32_d192_ed03);
        let mut chance = StdRng::seed_from_u64(mixed);
        let mut drawn: f64 = chance.random_range(0.0..1.0);
        let faults = [
            (self.delay, Fault::Delay(self.longest_delay.mul_f64(chance.random_range(0.0..1.0)))),
            (self.drop_request, Fault::DropRequest),
            (self.drop_reply, Fault::DropReply),
            (self.duplicate, Fault::Duplicate),
        ];
        for (odds, fault) in faults {
            if drawn < odds {
                return Some(fault);
            }
            drawn -= odds;
        }
        None
    }
}

fn lost<T>(verb: Verb, count: usize, reason: &str) -> Vec<Result<T, BackendError>> {
    let operation = match verb {
        Verb::Acquire => "acquire",
        Verb::Extend => "extend",
        Verb::Release => "release",
    };
    (0..count).map(|_| Err(BackendError::Unknown(Failure::new(operation, "a faulty backend", reason)))).collect()
}

/// A backend to which things happen that its [`Faults`] decide.
pub struct Faulty<B> {
    backend: Arc<B>,
    faults: Faults,
}

impl<B: Backend> Faulty<B> {
    /// Lets `faults` happen to `backend`.
    pub fn new(backend: B, faults: Faults) -> Self {
        Self { backend: Arc::new(backend), faults }
    }
}

#[async_trait]
impl<B: Backend> Backend for Faulty<B> {
    fn capabilities(&self) -> &Capabilities {
        self.backend.capabilities()
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        self.faults
            .run(Verb::Acquire, claims.len(), || {
                let (backend, claims) = (self.backend.clone(), claims.to_vec());
                async move { backend.acquire(&claims).await }
            })
            .await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        self.faults
            .run(Verb::Extend, extensions.len(), || {
                let (backend, extensions) = (self.backend.clone(), extensions.to_vec());
                async move { backend.extend(&extensions).await }
            })
            .await
    }

    async fn release(&self, leases: &[Release]) -> Vec<Result<Released, BackendError>> {
        self.faults
            .run(Verb::Release, leases.len(), || {
                let (backend, leases) = (self.backend.clone(), leases.to_vec());
                async move { backend.release(&leases).await }
            })
            .await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        self.faults.thawed().await;
        self.backend.inspect(resource).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        self.faults.thawed().await;
        self.backend.list(filter).await
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        self.faults.thawed().await;
        self.backend.break_leases(resource).await
    }

    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        self.faults.thawed().await;
        self.backend.examine().await
    }

    fn events(&self) -> EventStream {
        let lost = self.faults.0.events_get_lost.subscribe();
        self.backend.events().filter(move |_: &Event| std::future::ready(!*lost.borrow())).boxed()
    }
}

impl<B: fmt::Debug> fmt::Debug for Faulty<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("backend", &self.backend).finish_non_exhaustive()
    }
}
