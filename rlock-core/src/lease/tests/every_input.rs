//! Every input in every state of one lease, in every order.
//!
//! The [model](super::super::model) has a store and other clients, so its answers are those that a store gives, and its
//! users do what users do. Here the store and the user are arbitrary: any answer to a call under way, an answer to a
//! call that is over, any event and any wish at any time. The driver may delay a request and a timer, and may fire a
//! timer too early. The exploration visits all states within its moments and its number of calls.
//!
//! The model also gives all answers and faults, the events, `Timer`, `Extend`, `Watch`, `Unwatch`, `LetGo`, `GiveUp`,
//! `HandOver`, `Adopt` and `Close`. These are given here alone:
//!
//! - `Drain` and `Abandon`.
//! - An answer of another verb, a grant with another token, and a grant with little life.
//! - A wish in a phase that has no use for it, such as `Extend` while the lease is queued.
//! - A timer that fires too early, and a request that waits for its turn.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use super::*;

const OTHER: Token = Token::new(8);
const VERBS: [Verb; 3] = [Verb::Claim, Verb::Extend, Verb::Release];
const MOST_TICKETS: u64 = 1;

/// A lease alone, with the bounds of its exploration.
#[derive(Clone)]
struct Alone {
    terms: Terms,
    /// The moments at which something happens, in milliseconds after the claim.
    moments: &'static [u64],
    most_calls: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Point {
    lease: Lease,
    at: usize,
    /// The verbs whose request waits for its turn.
    wanted: [bool; 3],
    /// The calls under way and their verbs.
    calls: BTreeSet<(u32, usize)>,
    /// The number of extensions requested, and those without a reply.
    tickets: (u64, BTreeSet<u64>),
    is_granted: bool,
    is_refused: bool,
    is_lost: bool,
    is_confirmed: bool,
    /// The outcome of the release has to be confirmed.
    is_owed: bool,
    /// The token of the lease that the client adopts, until the user has adopted it.
    adopting: Option<Token>,
    broken: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Move {
    Pass,
    Begin(usize),
    Give(Input),
}

impl Alone {
    fn now(&self, point: &Point) -> Moment {
        start().after(ms(self.moments[point.at]))
    }

    /// Every answer to the call `call` of `verb`.
    fn answers(call: u32, verb: Verb) -> Vec<Input> {
        let little = Grant { token: TOKEN, ttl: ms(1_500) };
        let other = Grant { token: OTHER, ttl: ms(TTL) };
        let place = Place { ahead: 0, ask_again: ms(1_000) };
        let grants = [grant(TTL), little, other];
        let faults = [Fault::NotApplied, Fault::Unknown, Fault::Rejected];
        match verb {
            Verb::Claim => {
                let answers = [Acquired::Queued(place), Acquired::Busy].into_iter().chain(grants.map(Acquired::Held));
                let answers = answers.map(Ok).chain(faults.map(Err));
                answers.map(|answer| Input::Claimed(call, answer)).collect()
            }
            Verb::Extend => {
                let ends = [Extended::Queued(place), Extended::Gone { taken: true }, Extended::Gone { taken: false }];
                let answers = ends.into_iter().chain(grants.map(Extended::Held)).map(Ok).chain(faults.map(Err));
                answers.map(|answer| Input::Extended(call, answer)).collect()
            }
            Verb::Release => {
                let answers = [Released::Released, Released::Absent].map(Ok).into_iter().chain(faults.map(Err));
                answers.map(|answer| Input::Released(call, answer)).collect()
            }
        }
    }

    /// An answer of each verb to the call `call`.
    fn strange_answers(call: u32) -> [Input; 3] {
        [
            Input::Claimed(call, Ok(Acquired::Held(grant(TTL)))),
            Input::Extended(call, Ok(Extended::Gone { taken: true })),
            Input::Released(call, Ok(Released::Released)),
        ]
    }

    fn wishes(&self, point: &Point) -> Vec<Input> {
        let (now, (ticket, _)) = (self.now(point), &point.tickets);
        let hints = [Hint::Granted(TOKEN), Hint::Granted(OTHER), Hint::Broken, Hint::Resync].map(Input::Hint);
        let watch = Input::Watch(Renewal { generation: 2, ..renewal(TTL / 3, Some(1)) });
        let others = [Input::LetGo, Input::GiveUp, Input::HandOver, Input::Drain, Input::Close, Input::Abandon];
        let others = others.into_iter().chain([Input::Adopt, Input::Timer, watch]);
        let unwatches = [1, 2].map(|generation| Input::Unwatch { generation });
        let extensions = [TTL, TTL * 2].map(|life| Input::Extend {
            ttl: ttl(life),
            ticket: *ticket,
            retry_until: now.after(ms(1_000)),
        });
        let extensions = extensions.into_iter().filter(|_| *ticket < MOST_TICKETS);
        hints.into_iter().chain(others).chain(unwatches).chain(extensions).collect()
    }
}

impl Point {
    fn accuse(&mut self, promise: &'static str) {
        self.broken.get_or_insert(promise);
    }

    fn give(&mut self, now: Moment, input: Input) {
        let before = self.lease.clone();
        let is_in_time = before.deadline().is_none_or(|deadline| now < deadline);
        let (call, verb) = match input {
            Input::Claimed(call, _) => (call, Verb::Claim),
            Input::Extended(call, _) => (call, Verb::Extend),
            Input::Released(call, _) => (call, Verb::Release),
            _ => (0, Verb::Claim),
        };
        let was_granted = matches!(before.phase(), Phase::Held(_) | Phase::Ended(_));
        let is_adopting = self.adopting.is_some();
        let is_over = call > 0 && !self.calls.remove(&(call, verb as usize));
        match &input {
            Input::Extend { ticket, .. } => {
                self.tickets.0 += 1;
                self.tickets.1.insert(*ticket);
            }
            Input::LetGo => self.is_owed |= was_granted,
            Input::GiveUp | Input::Close => self.is_owed |= was_granted && !is_adopting,
            Input::Drain => {
                let has_ended = matches!(before.phase(), Phase::Ended(_)) || !is_in_time;
                self.is_owed |= has_ended && !is_adopting;
            }
            Input::Adopt if was_granted => self.adopting = None,
            _ => {}
        }
        // Whether an answer to the claim of an adoption is about a lease that this claim has made.
        let is_anew = match &input {
            _ if !is_adopting => None,
            Input::Claimed(_, Ok(Acquired::Held(grant))) => Some(self.adopting != Some(grant.token)),
            Input::Claimed(_, Ok(Acquired::Queued(_))) => Some(true),
            Input::Claimed(..) => Some(false),
            _ => None,
        };
        let mut effects = Effects::new();
        let step = AssertUnwindSafe(|| self.lease.step(now, input.clone(), &mut effects));
        if catch_unwind(step).is_err() {
            return self.accuse("no step panics");
        }
        if is_over && is_in_time && (self.lease != before || !effects.is_empty()) {
            self.accuse("an answer to a call that is over changes nothing");
        }
        let is_loss = |effect: &Effect| matches!(effect, Effect::Lose(_));
        let lose = effects.iter().position(is_loss);
        let is_forgotten = effects.contains(&Effect::Forget);
        self.carry_out(effects);
        let is_waiting = matches!(self.lease.phase(), Phase::Claiming(_) | Phase::Queued(_));
        let is_held = matches!(self.lease.phase(), Phase::Held(_));
        let is_releasing = matches!(self.lease.phase(), Phase::Releasing(_));
        let was_claiming = matches!(before.phase(), Phase::Claiming(_) | Phase::Releasing(_));
        let was_forgotten = *before.phase() == Phase::Forgotten;
        if lose.is_some_and(|position| position > 0) {
            self.accuse("a loss comes first");
        } else if is_forgotten != (!was_forgotten && *self.lease.phase() == Phase::Forgotten) {
            self.accuse("a lease that is forgotten says so");
        } else if is_forgotten && !self.tickets.1.is_empty() {
            self.accuse("an extension is answered before the lease is forgotten");
        } else if is_forgotten && self.is_owed && !self.is_confirmed {
            self.accuse("a release is confirmed before the lease is forgotten");
        } else if input == Input::Timer && self.lease.timer().is_some_and(|timer| timer <= now) {
            self.accuse("a timer that fires is over");
        } else if (is_waiting || is_held) && matches!(input, Input::Close | Input::Abandon | Input::LetGo) {
            self.accuse("a wish to end ends locks and waits");
        } else if self.lease.deadline().is_some_and(|deadline| deadline <= now) {
            self.accuse("a lock past its deadline is lost");
        } else if is_adopting && was_granted && is_releasing && input != Input::LetGo {
            self.accuse("a lease stays in the store until its user has adopted it");
        } else if is_anew.is_some_and(|is_anew| is_anew != is_releasing) && was_claiming && !is_over {
            self.accuse("an adoption releases a lease that it has made anew, and no other");
        } else if self.is_lost && is_held || self.is_refused && is_waiting {
            self.accuse("an end is final");
        }
    }

    fn carry_out(&mut self, effects: Effects) {
        for effect in effects {
            let is_right = match effect {
                Effect::Send(verb) => {
                    self.wanted[verb as usize] = true;
                    true
                }
                Effect::Grant(_) => !self.is_refused && !std::mem::replace(&mut self.is_granted, true),
                Effect::Refuse(_) => !self.is_granted && !std::mem::replace(&mut self.is_refused, true),
                Effect::Lose(_) => self.is_granted && !std::mem::replace(&mut self.is_lost, true),
                Effect::Confirm(_) => self.is_owed && !std::mem::replace(&mut self.is_confirmed, true),
                Effect::Reply(ticket, _) => self.tickets.1.remove(&ticket),
                _ => true,
            };
            if !is_right {
                self.accuse("each user is answered once");
            }
        }
    }

    /// Whether something will happen to the lease by itself.
    fn is_awake(&self) -> bool {
        let is_over = matches!(self.lease.phase(), Phase::Ended(_) | Phase::Forgotten);
        is_over || self.lease.timer().is_some() || self.wanted.contains(&true) || !self.calls.is_empty()
    }
}

impl Model for Alone {
    type State = Point;
    type Action = Move;

    fn init_states(&self) -> Vec<Point> {
        let mut effects = Effects::new();
        let lease = Lease::new(self.terms.clone(), start(), &mut effects);
        let mut point = Point {
            lease,
            at: 0,
            wanted: [false; 3],
            calls: BTreeSet::new(),
            tickets: (0, BTreeSet::new()),
            is_granted: false,
            is_refused: false,
            is_lost: false,
            is_confirmed: false,
            is_owed: false,
            adopting: self.terms.adopts,
            broken: None,
        };
        point.carry_out(effects);
        vec![point]
    }

    fn actions(&self, point: &Point, moves: &mut Vec<Move>) {
        if point.at + 1 < self.moments.len() {
            moves.push(Move::Pass);
        }
        let may_call = point.lease.last_call < self.most_calls;
        moves.extend((0..3).filter(|&verb| may_call && point.wanted[verb]).map(Move::Begin));
        let calls = point.calls.iter();
        moves.extend(calls.flat_map(|(call, verb)| Self::answers(*call, VERBS[*verb])).map(Move::Give));
        moves.extend((1..=point.lease.last_call).flat_map(Self::strange_answers).map(Move::Give));
        moves.extend(self.wishes(point).into_iter().map(Move::Give));
    }

    fn next_state(&self, point: &Point, next: Move) -> Option<Point> {
        let (mut point, now) = (point.clone(), self.now(point));
        match next {
            Move::Pass => point.at += 1,
            Move::Begin(verb) => {
                point.wanted[verb] = false;
                if let Some((call, _)) = point.lease.begin(VERBS[verb], now) {
                    point.calls.insert((call, verb));
                }
            }
            Move::Give(input) => point.give(now, input),
        }
        Some(point)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("promises", |_, point: &Point| point.broken.is_none()),
            Property::always("no lease sleeps for ever", |_, point: &Point| point.is_awake()),
        ]
    }
}

fn start() -> Moment {
    Moment::default().after(ms(1_000_000))
}

#[test]
fn no_input_is_a_surprise_in_any_state() {
    let watched = Terms { renewal: Some(renewal(TTL / 3, Some(1))), ..terms() };
    let limited = Terms { hold_at_least: ms(TTL), hold_at_most: Some(ms(TTL * 4 / 5)), ..unwatched() };
    let until = Wait::Until(start().after(ms(TTL / 2)));
    let polled = Terms { wait: until, queues: false, pushes: false, ..unwatched() };
    let tried = Terms { wait: Wait::Never, ..unwatched() };
    let adopted = Terms { adopts: Some(TOKEN), ..tried.clone() };
    let all = [("watched", watched), ("limited", limited), ("polled", polled), ("tried", tried), ("adopted", adopted)];
    for (name, terms) in all {
        let alone = Alone { terms, moments: &[0, 10_000, 50_000], most_calls: 3 };
        let begun = std::time::Instant::now();
        let checker = alone.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        println!("{name} | {} states | {:.1} s", checker.unique_state_count(), begun.elapsed().as_secs_f64());
        let broken = checker.discoveries().into_iter().next();
        assert!(
            broken.is_none(),
            "{name}: {}",
            broken.map(|(property, way)| trace(property, &way)).unwrap_or_default()
        );
    }
}

fn trace(property: &str, way: &stateright::Path<Point, Move>) -> String {
    let last = way.last_state();
    format!("{}: {:?}\n{last:#?}", last.broken.unwrap_or(property), way.clone().into_actions())
}
