//! A model of clients, a store and the network between them, for a model checker.
//!
//! The machine in the model is the real one. The store keeps the rules of the [contract](crate::Backend). The clock
//! advances by seconds. Within one second, everything that can happen happens in any order: requests arrive and are
//! answered, events arrive, timers fire, users act. Only a mishap takes longer or goes wrong, and each kind of mishap
//! has a budget: the world loses, delays, reorders and repeats requests, answers and events, and clients crash or stand
//! still.
//!
//! The properties allow three exceptions. A holder whose lock is broken by force believes in it until it hears of the
//! break. A claim that arrives after its release was confirmed, because the network has kept it or a copy of it,
//! creates a lease that lives for its TTL. A lock of a client that crashes, or that stands still until the lock is
//! lost, stays taken for its TTL and not for its minimum time.
//!
//! The model leaves out clocks that run at different speeds (the margin of a deadline covers these), stores that lose
//! data (a restart grace covers these), and failures of one lease in a batch, since a lease does not know its batch.

mod message;
mod moves;
mod store;
mod world;

use std::time::{Duration, Instant};

use stateright::{Checker as _, Expectation, HasDiscoveries, Model as _};

use super::{Renewal, Terms, Wait};
use crate::clock::Moment;
use crate::contract::Ttl;

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
}

/// The remaining mishaps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Requests, answers and events that are lost.
    pub(crate) losses: u8,
    /// Requests, answers and events that arrive seconds later.
    pub(crate) delays: u8,
    /// Clients that stand still, for any time.
    pub(crate) freezes: u8,
    /// Requests that arrive twice.
    pub(crate) repeats: u8,
    /// Requests that the store refuses to apply.
    pub(crate) refusals: u8,
    pub(crate) crashes: u8,
    /// Breaks by force.
    pub(crate) breaks: u8,
    /// Waiters that give up.
    pub(crate) give_ups: u8,
    /// Extensions that a holder requests, and watchdogs that it stops.
    pub(crate) wishes: u8,
}

impl Bounds {
    fn moment(now: u64) -> Moment {
        Moment::default().after(Duration::from_secs(1000 + now))
    }

    fn ttl(&self) -> u64 {
        self.terms.ttl.get().as_secs()
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
        adopts: false,
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

/// The explorations, by their names. Those that begin with `small` end within a few seconds.
pub(crate) fn explorations() -> Vec<(&'static str, Bounds)> {
    let none = Budget::default();
    let watched = terms(2, Wait::Forever, Some(1));
    let two = Bounds { clients: 2, capacity: 1, locks: 1, horizon: 4, budget: none, victim: None, terms: watched };
    let with = |budget: Budget| Bounds { budget, ..two.clone() };
    vec![
        ("small loss", with(Budget { losses: 1, ..none })),
        ("small delay", with(Budget { delays: 1, ..none })),
        ("small freeze", with(Budget { freezes: 1, crashes: 1, ..none })),
        ("small break", with(Budget { breaks: 1, ..none })),
        ("small repeat", with(Budget { repeats: 1, ..none })),
        ("small refusal", with(Budget { refusals: 2, ..none })),
        ("small wish", with(Budget { wishes: 2, give_ups: 1, ..none })),
        (
            "small wait",
            Bounds {
                terms: terms(2, Wait::Until(Bounds::moment(2)), Some(1)),
                ..with(Budget { losses: 1, give_ups: 1, ..none })
            },
        ),
        (
            "small unwatched",
            Bounds { terms: terms(2, Wait::Forever, None), ..with(Budget { losses: 1, breaks: 1, ..none }) },
        ),
        (
            "small rest",
            Bounds {
                terms: Terms { hold_at_least: Duration::from_secs(2), ..two.terms.clone() },
                ..with(Budget { losses: 1, give_ups: 1, ..none })
            },
        ),
        (
            "small limit",
            Bounds {
                terms: Terms { hold_at_most: Some(Duration::from_secs(2)), ..two.terms.clone() },
                ..with(Budget { losses: 1, wishes: 1, ..none })
            },
        ),
        (
            "small late limit",
            Bounds {
                clients: 1,
                terms: Terms { hold_at_most: Some(Duration::from_secs(1)), ..two.terms.clone() },
                ..with(Budget { freezes: 1, ..none })
            },
        ),
        (
            "late extension",
            Bounds {
                horizon: 5,
                victim: Some(0),
                terms: terms(3, Wait::Forever, None),
                ..with(Budget { losses: 1, delays: 1, wishes: 1, ..none })
            },
        ),
        (
            "late grant",
            Bounds {
                locks: 2,
                victim: Some(1),
                terms: terms(3, Wait::Forever, Some(1)),
                ..with(Budget { losses: 1, delays: 1, ..none })
            },
        ),
        ("two clients", with(Budget { losses: 1, freezes: 1, crashes: 1, give_ups: 1, ..none })),
        (
            "two clients that lock twice",
            Bounds { locks: 2, ..with(Budget { losses: 1, repeats: 1, refusals: 1, ..none }) },
        ),
        ("three clients", Bounds { clients: 3, ..with(Budget { losses: 1, crashes: 1, ..none }) }),
        (
            "three clients and two permits",
            Bounds { clients: 3, capacity: 2, ..with(Budget { delays: 1, crashes: 1, ..none }) },
        ),
    ]
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
