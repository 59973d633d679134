//! A model of clients, a store and the network between them, for a model checker.
//!
//! The machine in the model is the real one. The store keeps the rules of the [contract](crate::Backend). The clock
//! advances by seconds. Within one second, everything that can happen happens in any order: requests arrive and are
//! answered, events arrive, timers fire, users act. Only a mishap takes longer or goes wrong, and each kind of mishap
//! has a budget: the world loses, delays, reorders and repeats requests, answers and events, and clients crash or stand
//! still.
//!
//! The properties say what must never happen, and by when users get what they wait for. They allow these exceptions. A
//! holder whose lock is broken by force believes in it until it hears of the break, for the longest life that it requests
//! at most. A claim or an extension that arrives after a release was sent or the lock was lost, because the network has
//! kept it or a copy of it, creates a lease or prolongs its life, and that lease may live for its TTL. The lease of a
//! client that crashes, and one whose release the store refuses for good, lives for its TTL. A lock of a client that
//! crashes, or that stands still until the lock is lost, stays taken for its TTL and not for its minimum time. A lease
//! that is handed over, and one that an adoption has made anew without getting the answer, lives for its TTL unless a
//! client adopts it.
//!
//! The model leaves out clocks that run at different speeds (the margin of a deadline covers these), stores that lose
//! data (a restart grace covers these), and failures of one lease in a batch, since a lease does not know its batch.

mod adoption;
mod explorations;
mod live;
mod message;
mod moves;
mod network;
mod properties;
mod store;
mod world;

use std::time::{Duration, Instant};

use stateright::{Checker as _, Expectation, HasDiscoveries, Model as _};

use super::{Renewal, Terms, Wait};
use crate::clock::Moment;
use crate::contract::Ttl;

pub(crate) use self::explorations::explorations;

/// The bounds of an exploration.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) clients: usize,
    pub(crate) capacity: usize,
    /// Locks that each client takes one after the other.
    pub(crate) locks: u8,
    /// The last second of the exploration.
    pub(crate) horizon: u64,
    pub(crate) budget: Budget,
    /// The only client whose messages can have mishaps.
    pub(crate) victim: Option<usize>,
    pub(crate) terms: Terms,
    /// Holders extend their locks, and replace their watchdogs, by this multiple of the TTL.
    pub(crate) stretch: u32,
}

/// The remaining mishaps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Requests, answers and events that are lost.
    pub(crate) losses: u8,
    /// Requests, answers and events that arrive seconds later.
    pub(crate) delays: u8,
    /// Answers and events that arrive seconds later.
    pub(crate) late_answers: u8,
    /// Clients that stand still, for any time.
    pub(crate) freezes: u8,
    /// Requests that arrive twice.
    pub(crate) repeats: u8,
    /// Answers and events that arrive twice.
    pub(crate) echoes: u8,
    /// Requests that the store refuses to apply.
    pub(crate) refusals: u8,
    /// Requests that the store refuses for good.
    pub(crate) rejections: u8,
    pub(crate) crashes: u8,
    /// Breaks by force.
    pub(crate) breaks: u8,
    /// Waiters that give up.
    pub(crate) give_ups: u8,
    /// Holders that leave their lock to another client.
    pub(crate) hand_overs: u8,
    /// Extensions that a holder requests, and watchdogs that it stops.
    pub(crate) wishes: u8,
    /// Watchdogs that a holder replaces.
    pub(crate) watches: u8,
    /// Clients that shut down.
    pub(crate) closes: u8,
    /// Reports of the store that events may have been lost.
    pub(crate) resyncs: u8,
}

impl Budget {
    /// Spends the delay of a request, or of an answer or event.
    fn delay(&mut self, is_request: bool) {
        let kind = if is_request || self.late_answers == 0 { &mut self.delays } else { &mut self.late_answers };
        *kind -= 1;
    }
}

impl Bounds {
    fn moment(now: u64) -> Moment {
        Moment::default().after(Duration::from_secs(1000 + now))
    }

    fn ttl(&self) -> u64 {
        self.terms.ttl.get().as_secs()
    }

    /// The longest life that an extension requests.
    fn longest(&self) -> Ttl {
        Ttl::new(self.terms.ttl.get() * self.stretch).expect("it is in bounds")
    }
}

/// Terms of a lock that lives for some seconds.
pub(crate) fn terms(ttl: u64, wait: Wait, watchdog: Option<u64>) -> Terms {
    let ttl = Ttl::new(Duration::from_secs(ttl)).expect("it is in bounds");
    let renewal = watchdog.map(|interval| Renewal {
        generation: 1,
        interval: Duration::from_secs(interval),
        extend_by: ttl,
        max_failures: None,
    });
    Terms {
        ttl,
        wait,
        retry_for: Duration::from_secs(2),
        renewal,
        hold_at_least: Duration::ZERO,
        hold_at_most: None,
        adopts: None,
        queues: true,
        pushes: true,
        seed: 0,
    }
}

/// The outcome of an exploration.
#[derive(Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) took: Duration,
    /// The broken property, and the way to the state that breaks it.
    pub(crate) broken: Option<(&'static str, String)>,
}

/// Explores every state within the bounds.
pub(crate) fn explore(bounds: Bounds) -> Explored {
    let begun = Instant::now();
    let checker = bounds.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let expected = |name: &str| {
        let property = checker.model().properties().into_iter().find(|property| property.name == name);
        property.is_some_and(|property| property.expectation == Expectation::Always)
    };
    let discoveries = checker.discoveries();
    let broken = discoveries.iter().find(|(name, _)| expected(name));
    let broken = broken.map(|(name, path)| {
        let last = path.last_state();
        (*name, format!("{}: {:?}\n{:#?}", last.broken.unwrap_or(name), path.clone().into_actions(), last.clients))
    });
    Explored { states: checker.unique_state_count(), took: begun.elapsed(), broken }
}
