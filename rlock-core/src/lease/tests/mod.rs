//! The effects of each input in each phase.

mod adopting;
mod claiming;
mod every_input;
mod held;
mod releasing;

use std::time::Duration;

use super::model;
use super::{
    Effect, Effects, ExtendOutcome, Fault, Hint, Input, Lease, LossReason, Order, Phase, Refusal, ReleaseOutcome,
    Renewal, Terms, Verb, Wait, WatchdogFault,
};
use crate::clock::Moment;
use crate::contract::{Acquired, Extended, Grant, Place, Released, Token, Ttl};

const TTL: u64 = 30_000;
const TOKEN: Token = Token::new(7);

/// A lease whose driver sends every request at once.
struct Driven {
    lease: Lease,
    now: Moment,
    sent: Vec<Order>,
    /// The number of the last request of each verb.
    calls: [u32; 3],
}

impl Driven {
    /// A lease with the wait `wait`, a TTL of 30 s, and a watchdog at a third of it.
    fn new(wait: Wait) -> (Self, Vec<Effect>) {
        Self::with(Terms { wait, ..terms() })
    }

    fn with(terms: Terms) -> (Self, Vec<Effect>) {
        let now = Moment::default().after(ms(1_000_000));
        let mut effects = Effects::new();
        let lease = Lease::new(terms, now, &mut effects);
        let mut driven = Self { lease, now, sent: Vec::new(), calls: [0; 3] };
        let effects = driven.carry_out(effects);
        (driven, effects)
    }

    /// A lease that is held from now on, with its whole life.
    fn held(terms: Terms) -> Self {
        let (mut driven, _) = Self::with(terms);
        driven.take(held());
        driven
    }

    /// A lease in the queue from now on.
    fn queued(terms: Terms) -> Self {
        let (mut driven, _) = Self::with(terms);
        driven.take(queued(TTL));
        driven
    }

    /// Returns the effects of `input` without the requests, which are [`sent`](Self::sent). An answer is to the last
    /// request.
    fn take(&mut self, input: Input) -> Vec<Effect> {
        let last = |verb: Verb| self.calls[verb as usize];
        let input = match input {
            Input::Claimed(_, answer) => Input::Claimed(last(Verb::Claim), answer),
            Input::Extended(_, answer) => Input::Extended(last(Verb::Extend), answer),
            Input::Released(_, answer) => Input::Released(last(Verb::Release), answer),
            other => other,
        };
        self.take_numbered(input)
    }

    fn take_numbered(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Effects::new();
        self.lease.step(self.now, input, &mut effects);
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Effects) -> Vec<Effect> {
        let mut others = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send(verb) => {
                    if let Some((call, order)) = self.lease.begin(verb, self.now) {
                        self.calls[verb as usize] = call;
                        self.sent.push(order);
                    }
                }
                other => others.push(other),
            }
        }
        others
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now.after(ms(millis));
    }

    /// Advances the time to the lease's timer, and fires it.
    fn fire(&mut self) -> Vec<Effect> {
        self.now = self.now.max(self.lease.timer().expect("it has one"));
        self.take(Input::Timer)
    }

    fn sends(&mut self, orders: &[Order]) {
        assert_eq!(std::mem::take(&mut self.sent), orders);
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ttl(millis: u64) -> Ttl {
    Ttl::new(ms(millis)).expect("it is in bounds")
}

fn renewal(interval: u64, max_failures: Option<u32>) -> Renewal {
    Renewal { generation: 1, interval: ms(interval), extend_by: ttl(TTL), max_failures }
}

fn terms() -> Terms {
    Terms {
        ttl: ttl(TTL),
        wait: Wait::Forever,
        retry_for: ms(5_000),
        renewal: Some(renewal(TTL / 3, None)),
        hold_at_least: Duration::ZERO,
        hold_at_most: None,
        adopts: None,
        queues: true,
        pushes: true,
        seed: 0,
    }
}

fn unwatched() -> Terms {
    Terms { renewal: None, ..terms() }
}

fn grant(millis: u64) -> Grant {
    Grant { token: TOKEN, ttl: ms(millis) }
}

fn held() -> Input {
    Input::Claimed(0, Ok(Acquired::Held(grant(TTL))))
}

fn queued(ask_again: u64) -> Input {
    Input::Claimed(0, Ok(Acquired::Queued(Place { ahead: 0, ask_again: ms(ask_again) })))
}

fn extended() -> Input {
    Input::Extended(0, Ok(Extended::Held(grant(TTL))))
}

fn gone(taken: bool) -> Input {
    Input::Extended(0, Ok(Extended::Gone { taken }))
}

fn claim() -> Order {
    Order::Claim { ttl: ttl(TTL), queue: true }
}

fn release() -> Order {
    Order::Release { rest: Duration::ZERO }
}

fn extend(millis: u64) -> Order {
    Order::Extend { ttl: ttl(millis) }
}

/// Runs the explorations whose names begin as `RLOCK_MODEL` says; without it those whose names begin with `small`.
#[test]
fn model_holds() {
    let wanted = std::env::var("RLOCK_MODEL").unwrap_or_else(|_| "small".to_owned());
    let mut broken = Vec::new();
    for (name, bounds) in model::explorations().into_iter().filter(|(name, _)| name.starts_with(&wanted)) {
        let explored = model::explore(bounds);
        println!("{name} | {} states | {:.1} s", explored.states, explored.took.as_secs_f64());
        broken.extend(explored.broken.map(|(property, way)| format!("{name}: {property}\n{way}")));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}
