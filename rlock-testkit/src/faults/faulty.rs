//! A backend that loses, delays and repeats requests and replies.

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

/// The fault of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request reaches the store after this delay.
    Delay(Duration),
    /// The request never reaches the store. The caller gets an unknown outcome.
    DropRequest,
    /// The request takes effect, and the reply gets lost. The caller gets an unknown outcome.
    DropReply,
    /// The request reaches the store twice, one after the other. The caller gets the first reply.
    Duplicate,
    /// The caller gets an unknown outcome at once, and the request reaches the store after this delay.
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

/// Probability of each fault for one call, from 0 to 1. The rest up to 1 is the probability of no fault.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Odds {
    /// Probability of a [`Fault::Delay`] of up to [`longest_delay`](Self::longest_delay).
    pub delay: f64,
    /// The longest delay.
    pub longest_delay: Duration,
    /// Probability of a [`Fault::DropRequest`].
    pub drop_request: f64,
    /// Probability of a [`Fault::DropReply`].
    pub drop_reply: f64,
    /// Probability of a [`Fault::Duplicate`].
    pub duplicate: f64,
}

/// Decides the fault of each call. Clones share their decisions and the backends that they control.
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
    /// Faults of the next calls, in order.
    next: VecDeque<Fault>,
    /// Fault of all calls after those.
    all: Option<Fault>,
    happened: Vec<(u64, Fault)>,
}

impl Faults {
    /// Injects no fault except those that [`next`](Self::next) and the other methods request.
    pub fn none() -> Self {
        Self::new(None)
    }

    /// Injects random faults beside the requested ones. The fault of the n-th call of a verb depends only on seed, verb
    /// and n, so that the same calls in the same order get the same faults.
    pub fn seeded(seed: u64, odds: Odds) -> Self {
        Self::new(Some((seed, odds)))
    }

    fn new(seeded: Option<(u64, Odds)>) -> Self {
        let (events_get_lost, is_frozen) = (watch::Sender::new(false), watch::Sender::new(false));
        Self(Arc::new(Shared { seeded, decided: Mutex::default(), events_get_lost, is_frozen }))
    }

    /// Injects `fault` into the next call of `verb`. Several calls of this method apply to the next calls, in order.
    pub fn next(&self, verb: Verb, fault: Fault) {
        self.decided()[verb as usize].next.push_back(fault);
    }

    /// Injects `fault` into all calls of `verb` from now on.
    pub fn all(&self, verb: Verb, fault: Fault) {
        self.decided()[verb as usize].all = Some(fault);
    }

    /// Revokes the faults that [`next`](Self::next) and [`all`](Self::all) requested.
    pub fn clear(&self) {
        for decided in &mut *self.decided() {
            decided.next.clear();
            decided.all = None;
        }
    }

    /// Freezes the store: no request reaches it until [`thaw`](Self::thaw). After that, the waiting requests reach it,
    /// unless their callers were cancelled.
    pub fn freeze(&self) {
        self.0.is_frozen.send_replace(true);
    }

    /// Ends a [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.0.is_frozen.send_replace(false);
    }

    /// Sets whether events get lost from now on, without an [`Event::Resync`] after them.
    pub fn lose_events(&self, lose: bool) {
        self.0.events_get_lost.send_replace(lose);
    }

    /// The number of calls of `verb` so far.
    pub fn calls(&self, verb: Verb) -> u64 {
        self.decided()[verb as usize].calls
    }

    /// The faults of the calls of `verb` so far: the number of the call, counted from 0, and its fault.
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

    /// Runs a call of `verb` for `count` leases, with the fault that was decided for it.
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
        // The factors are odd, so that no two calls share a seed. Their values do not matter otherwise.
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

/// A backend with the faults of a [`Faults`].
pub struct Faulty<B> {
    backend: Arc<B>,
    faults: Faults,
}

impl<B: Backend> Faulty<B> {
    /// Injects `faults` into the calls of `backend`.
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
