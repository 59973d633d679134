//! The state of the model: the store, the clients, and the messages between them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::message::{Body, Message, Request, Response};
use super::store::Store;
use super::{Bounds, Budget};
use crate::clock::Moment;
use crate::contract::{Acquired, Extended, Grant, Place, Released, Token};
use crate::lease::{
    Effect, Effects, ExtendOutcome, Fault, Hint, Input, Lease, LossReason, Order, Phase, Refusal, ReleaseOutcome, Verb,
};

pub(super) const VERBS: [Verb; 3] = [Verb::Claim, Verb::Extend, Verb::Release];

/// One state of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// The time in seconds.
    pub(super) now: u64,
    pub(super) store: Store,
    pub(super) clients: Vec<Client>,
    pub(super) network: BTreeSet<Message>,
    pub(super) budget: Budget,
    /// The leases that were broken by force.
    pub(super) forced: BTreeSet<u8>,
    /// The token of the last grant that a client believed.
    pub(super) last_token: u64,
    /// The lease that was granted last with a minimum time, and the end of that time.
    pub(super) kept: Option<(u8, u64)>,
    /// The first broken promise.
    pub(super) broken: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub(super) lease: Option<Live>,
    pub(super) locks_left: u8,
    pub(super) is_frozen: bool,
}

/// A lease with the state that its driver has of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Live {
    pub(super) id: u8,
    pub(super) machine: Lease,
    /// The calls under way and their verbs.
    pub(super) calls: BTreeSet<(u32, usize)>,
    pub(super) user: User,
    /// Extensions that the holder waits for.
    pub(super) tickets: BTreeSet<u64>,
    /// The second in which the holder has to lose the lock, with a maximum time.
    pub(super) limit: Option<u64>,
    pub(super) is_lost: bool,
}

/// The state of the user of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum User {
    Waits,
    Holds,
    /// Waits for the release.
    Unlocks,
    /// No longer needs the lease.
    Left,
}

impl World {
    pub(super) fn moment(&self) -> Moment {
        Bounds::moment(self.now)
    }

    pub(super) fn accuse(&mut self, promise: &'static str) {
        self.broken.get_or_insert(promise);
    }

    /// Applies one input to a lease, and does the work of a driver.
    pub(super) fn step(&mut self, bounds: &Bounds, client: usize, input: Input) {
        let mut effects = Effects::new();
        let now = self.moment();
        let Some(live) = &mut self.clients[client].lease else { return };
        let is_gone = matches!(input, Input::Extended(_, Ok(Extended::Gone { .. })));
        let end = live.machine.deadline();
        let is_past = end.is_some_and(|end| end <= now);
        let is_limit_first = live.limit.is_some_and(|limit| end == Some(Bounds::moment(limit)));
        let is_over = live.limit.is_some_and(|limit| limit <= self.now);
        live.machine.step(now, input, &mut effects);
        let is_held = live.machine.deadline().is_some();
        let is_ended = matches!(live.machine.phase(), Phase::Ended(_));
        let is_signalled = live.is_lost || effects.iter().any(|effect| matches!(effect, Effect::Lose(_)));
        let is_unsignalled = is_ended && live.user == User::Holds && !is_signalled;
        let is_misnamed = effects.iter().any(|effect| match effect {
            Effect::Lose(LossReason::HeldTooLong) => !is_limit_first,
            Effect::Lose(LossReason::Expired) => is_limit_first,
            _ => false,
        });
        if is_past && is_held {
            self.accuse("a lock past its deadline is lost");
        } else if is_over && is_held {
            self.accuse("a lock past its maximum time is lost");
        } else if is_gone && is_held {
            self.accuse("the store's word ends a lock");
        } else if is_unsignalled {
            self.accuse("a loss is signalled");
        } else if is_misnamed {
            self.accuse("a loss names the earlier of the deadline and the maximum time");
        }
        self.carry_out(bounds, client, effects);
    }

    pub(super) fn carry_out(&mut self, bounds: &Bounds, client: usize, effects: Effects) {
        let now = self.moment();
        let mut is_forgotten = false;
        let mut begins_again = false;
        for effect in effects {
            let Some(live) = &mut self.clients[client].lease else { return };
            match effect {
                Effect::Send(verb) => self.send(client, verb, now),
                Effect::Lose(_) => {
                    self.kept.take_if(|(id, _)| *id == live.id);
                    if std::mem::replace(&mut live.is_lost, true) {
                        self.accuse("a loss is signalled once");
                    }
                }
                Effect::Grant(token) => {
                    if live.user != User::Waits {
                        self.accuse("a lock goes to a waiter, once");
                        continue;
                    }
                    live.user = User::Holds;
                    live.limit = bounds.terms.hold_at_most.map(|most| self.now + most.as_secs());
                    let minimum = bounds.terms.hold_at_least.as_secs();
                    let next = (minimum > 0).then_some((live.id, self.now + minimum));
                    if let Some((_, until)) = std::mem::replace(&mut self.kept, next)
                        && self.now < until
                    {
                        return self.accuse("a lock stays taken for its minimum time");
                    }
                    if token.get() <= self.last_token && bounds.capacity == 1 && !self.forced.contains(&live.id) {
                        self.accuse("tokens grow");
                    }
                    self.last_token = self.last_token.max(token.get());
                }
                Effect::Refuse(refusal) => {
                    if std::mem::replace(&mut live.user, User::Left) != User::Waits {
                        self.accuse("a waiter is told, once");
                    }
                    begins_again |= matches!(refusal, Refusal::Ended(_));
                }
                Effect::Reply(ticket, outcome) => {
                    if !live.tickets.remove(&ticket) {
                        self.accuse("an extension is answered once");
                    } else if outcome == ExtendOutcome::Extended && live.machine.deadline().is_none() {
                        self.accuse("only a held lock is extended");
                    }
                }
                Effect::Confirm(outcome) => {
                    let is_lost = live.is_lost;
                    let user = std::mem::replace(&mut live.user, User::Left);
                    if user == User::Waits || user == User::Holds {
                        self.accuse("a release is confirmed to the one who asked for it");
                    } else if outcome == ReleaseOutcome::Released && is_lost {
                        self.accuse("a lock that was lost is not released");
                    }
                }
                Effect::Released(_)
                | Effect::Unreleased
                | Effect::Begun { .. }
                | Effect::Renewed
                | Effect::Failed(_) => {}
                Effect::Forget => is_forgotten = true,
            }
        }
        let Some(live) = &self.clients[client].lease else { return };
        if is_forgotten != (*live.machine.phase() == Phase::Forgotten) {
            self.accuse("a lease that is forgotten says so");
        } else if is_forgotten {
            if live.user != User::Left {
                self.accuse("a user is told before the lease is forgotten");
            } else if !live.tickets.is_empty() {
                self.accuse("an extension is answered before the lease is forgotten");
            }
            self.clients[client].lease = None;
        } else if begins_again {
            self.step(bounds, client, Input::GiveUp);
        }
    }

    pub(super) fn send(&mut self, client: usize, verb: Verb, now: Moment) {
        let live = self.clients[client].lease.as_mut().expect("the lease has sent it");
        let Some((call, order)) = live.machine.begin(verb, now) else {
            return self.accuse("a request that is wanted can be sent");
        };
        let id = live.id;
        if verb != Verb::Extend && live.calls.iter().any(|(_, other)| *other == verb as usize) {
            self.accuse("one claim or release is under way");
        }
        let live = self.clients[client].lease.as_mut().expect("it is there");
        live.calls.insert((call, verb as usize));
        let request = match order {
            Order::Claim { queue, .. } => Request::Claim { queue },
            Order::Extend { ttl } => Request::Extend { seconds: ttl.get().as_secs() },
            Order::Release { rest } => Request::Release { rest: rest.as_secs() },
        };
        let body = Body::Request { call, request };
        self.network.insert(Message { client, id, is_delayed: false, body });
    }

    /// Delivers a request to the store, and returns the answer, which is then on its way.
    pub(super) fn arrive(&mut self, bounds: &Bounds, message: &Message) -> Message {
        let Body::Request { call, request } = message.body else { unreachable!("it is a request") };
        let mut sent = Vec::new();
        let answer = self.store.apply(self.now, bounds, message, request, &mut sent);
        self.post(sent);
        Message { body: Body::Answer { call, answer }, is_delayed: false, ..*message }
    }

    pub(super) fn post(&mut self, sent: Vec<(usize, u8, Body)>) {
        for (client, id, body) in sent {
            self.network.insert(Message { client, id, is_delayed: false, body });
        }
    }

    /// Delivers a message to its client.
    pub(super) fn receive(&mut self, bounds: &Bounds, message: Message) {
        if self.clients[message.client].is_frozen {
            self.network.insert(Message { is_delayed: true, ..message });
            return;
        }
        let Some(live) = self.clients[message.client].lease.as_mut().filter(|live| live.id == message.id) else {
            return;
        };
        let input = match message.body {
            Body::Granted(token) => Input::Hint(Hint::Granted(Token::new(token))),
            Body::Broken => Input::Hint(Hint::Broken),
            Body::Answer { call, answer } => {
                let Some(under_way) = live.calls.iter().copied().find(|(number, _)| *number == call) else { return };
                live.calls.remove(&under_way);
                input_of(VERBS[under_way.1], call, answer)
            }
            Body::Request { .. } => unreachable!("requests go to the store"),
        };
        self.step(bounds, message.client, input);
    }

    pub(super) fn deliver(&mut self, bounds: &Bounds, message: Message) {
        let received = if message.is_request() { self.arrive(bounds, &message) } else { message };
        self.receive(bounds, received);
    }

    /// Whether everything that has to happen within this second has happened.
    pub(super) fn is_over(&self) -> bool {
        let is_at_rest = |client: &Client| {
            let timer = client.lease.as_ref().and_then(|live| live.machine.timer());
            client.is_frozen || timer.is_none_or(|timer| timer > self.moment())
        };
        self.network.iter().all(|message| message.is_delayed) && self.clients.iter().all(is_at_rest)
    }

    /// Whether a call waits for an answer that is late or lost.
    pub(super) fn is_overdue(&self, id: u8, call: u32) -> bool {
        self.network.iter().all(|message| match message.body {
            Body::Request { call: other, .. } | Body::Answer { call: other, .. } => {
                message.id != id || other != call || message.is_delayed
            }
            Body::Granted(_) | Body::Broken => true,
        })
    }

    /// The number of clients that believe that they hold the lock, without those whose lock was broken by force.
    pub(super) fn believers(&self) -> usize {
        let believes = |client: &&Client| {
            let live = client.lease.as_ref().filter(|live| !self.forced.contains(&live.id));
            live.and_then(|live| live.machine.deadline()).is_some_and(|deadline| self.moment() < deadline)
        };
        self.clients.iter().filter(believes).count()
    }
}

pub(super) fn input_of(verb: Verb, call: u32, answer: Response) -> Input {
    let grant = |token, left| Grant { token: Token::new(token), ttl: Duration::from_secs(left) };
    let place = |ask_again| Place { ahead: 0, ask_again: Duration::from_secs(ask_again) };
    match verb {
        Verb::Claim => Input::Claimed(
            call,
            match answer {
                Response::Held { token, left } => Ok(Acquired::Held(grant(token, left))),
                Response::Queued { ask_again } => Ok(Acquired::Queued(place(ask_again))),
                Response::Busy => Ok(Acquired::Busy),
                _ => Err(Fault::NotApplied),
            },
        ),
        Verb::Extend => Input::Extended(
            call,
            match answer {
                Response::Held { token, left } => Ok(Extended::Held(grant(token, left))),
                Response::Queued { ask_again } => Ok(Extended::Queued(place(ask_again))),
                Response::Gone { taken } => Ok(Extended::Gone { taken }),
                _ => Err(Fault::NotApplied),
            },
        ),
        Verb::Release => Input::Released(
            call,
            match answer {
                Response::Released => Ok(Released::Released),
                Response::Absent => Ok(Released::Absent),
                _ => Err(Fault::NotApplied),
            },
        ),
    }
}

pub(super) fn unknown(verb: Verb, call: u32) -> Input {
    match verb {
        Verb::Claim => Input::Claimed(call, Err(Fault::Unknown)),
        Verb::Extend => Input::Extended(call, Err(Fault::Unknown)),
        Verb::Release => Input::Released(call, Err(Fault::Unknown)),
    }
}
