//! The state of the model: the store, the clients, and the messages between them.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{Body, Message, Request};
use super::store::Store;
use super::{Bounds, Budget};
use crate::clock::Moment;
use crate::contract::Extended;
use crate::lease::{
    Effect, Effects, ExtendOutcome, Fault, Hint, Input, Lease, LossReason, Order, Phase, Refusal, ReleaseOutcome,
    STRAY, Verb, Wait,
};

/// One state of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// The time in seconds.
    pub(super) now: u64,
    pub(super) store: Store,
    pub(super) clients: Vec<Client>,
    pub(super) network: BTreeSet<Message>,
    pub(super) budget: Budget,
    /// The leases that were broken by force, and the second by which their holders stop believing in them.
    pub(super) forced: BTreeMap<u8, u64>,
    /// The leases of clients that crashed, and whose claim may still arrive.
    pub(super) crashed: BTreeSet<u8>,
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
    /// The last call that was under way when the client received the event that the lease was broken.
    pub(super) heard: Option<u32>,
    /// The second in which the client gave up the last claim without an answer.
    pub(super) unanswered: Option<u64>,
    /// The store's answer has to end the lock within this second.
    pub(super) ends_now: bool,
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
        let is_older = live.heard.is_some_and(|last| match input {
            Input::Hint(Hint::Granted(_)) => true,
            Input::Extended(call, _) => call <= last,
            _ => false,
        });
        let is_old_news = is_older && !self.store.holds(live.id);
        if matches!(input, Input::Claimed(_, Err(Fault::Unknown))) {
            live.unanswered = Some(self.now);
        }
        let end = live.machine.deadline();
        let is_past = end.is_some_and(|end| end <= now);
        let is_limit_first = live.limit.is_some_and(|limit| end == Some(Bounds::moment(limit)));
        let is_over = live.limit.is_some_and(|limit| limit <= self.now);
        live.machine.step(now, input, &mut effects);
        let is_held = live.machine.deadline().is_some();
        let is_ended = matches!(live.machine.phase(), Phase::Ended(_));
        let is_signalled = live.is_lost || effects.iter().any(|effect| matches!(effect, Effect::Lose(_)));
        let is_granted = effects.iter().any(|effect| matches!(effect, Effect::Grant(_)));
        let is_granted_late = is_granted && live.machine.deadline().is_none_or(|deadline| deadline <= now);
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
        } else if is_granted && is_old_news {
            self.accuse("old news grants no lock after the news of its break");
        } else if is_granted_late {
            self.accuse("a lock is granted before its deadline");
        } else if is_misnamed {
            self.accuse("a loss names the earlier of the deadline and the maximum time");
        }
        self.carry_out(bounds, client, effects);
    }

    pub(super) fn crash(&mut self, client: usize) {
        self.keep_no_longer(client); // the lease may have ended before that time
        self.store.excuse(|entry| entry.client == client);
        let claims = self.network.iter().filter(|message| message.client == client && message.is_claim());
        self.crashed.extend(claims.map(|message| message.id));
        self.clients[client] = Client { lease: None, locks_left: 0, is_frozen: false };
    }

    /// Expects no longer that the minimum time of this client's lease is kept.
    pub(super) fn keep_no_longer(&mut self, client: usize) {
        let lease = self.clients[client].lease.as_ref().map(|live| live.id);
        self.kept.take_if(|(id, _)| Some(*id) == lease);
    }

    /// Shuts a client down.
    pub(super) fn close(&mut self, bounds: &Bounds, client: usize) {
        self.clients[client].locks_left = 0;
        let Some(live) = &mut self.clients[client].lease else { return };
        let is_held = live.machine.deadline().is_some();
        if live.user == User::Holds {
            live.user = User::Unlocks; // the guard's user gets the outcome
        }
        self.step(bounds, client, Input::Close);
        let Some(live) = &self.clients[client].lease else { return };
        if is_held && !(live.is_lost && live.user == User::Left) {
            self.accuse("a shutdown signals the loss of a lock");
        } else if live.machine.deadline().is_some() || live.user == User::Waits {
            self.accuse("a shutdown ends locks and waits");
        }
    }

    pub(super) fn carry_out(&mut self, bounds: &Bounds, client: usize, effects: Effects) {
        let now = self.moment();
        let is_unreleased = effects.contains(&Effect::Unreleased);
        let mut is_forgotten = false;
        let mut begins_again = false;
        for effect in effects {
            let Some(live) = &mut self.clients[client].lease else { return };
            match effect {
                Effect::Send(verb) => self.send(client, verb, now),
                Effect::Lose(reason) => {
                    self.kept.take_if(|(id, _)| *id == live.id && reason != LossReason::Shutdown);
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
                    if self.forced.contains_key(&live.id) {
                        self.last_token = self.last_token.max(token.get());
                        continue; // an event from before the break
                    }
                    let next = (minimum > 0).then_some((live.id, self.now + minimum));
                    if let Some((_, until)) = std::mem::replace(&mut self.kept, next)
                        && self.now < until
                    {
                        return self.accuse("a lock stays taken for its minimum time");
                    }
                    if token.get() <= self.last_token && bounds.capacity == 1 {
                        self.accuse("tokens grow");
                    }
                    self.last_token = self.last_token.max(token.get());
                }
                Effect::Refuse(refusal) => {
                    if std::mem::replace(&mut live.user, User::Left) != User::Waits {
                        self.accuse("a waiter is refused once");
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
                self.accuse("a user is answered before the lease is forgotten");
            } else if !live.tickets.is_empty() {
                self.accuse("an extension is answered before the lease is forgotten");
            } else if !is_unreleased && self.is_forgotten_too_early(bounds, live) {
                self.accuse("a claim without an answer is released more than once");
            }
            self.clients[client].lease = None;
        } else if begins_again {
            self.step(bounds, client, Input::GiveUp);
        }
    }

    /// Whether a claim may arrive whose answer was given up a short time ago.
    fn is_forgotten_too_early(&self, bounds: &Bounds, live: &Live) -> bool {
        let may_arrive = self.network.iter().any(|message| message.id == live.id && message.is_claim());
        let least = bounds.terms.ttl.get().min(bounds.terms.retry_for).min(STRAY);
        may_arrive && live.unanswered.is_some_and(|second| self.moment() < Bounds::moment(second).after(least))
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
            Order::Claim { queue: true, .. } if live.machine.terms().wait == Wait::Never => {
                return self.accuse("a try does not queue");
            }
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
        let is_known = self.store.alive(self.now).any(|entry| entry.id == message.id);
        let mut sent = Vec::new();
        let answer = self.store.apply(self.now, bounds, message, request, &mut sent);
        self.post(bounds, sent);
        let lease = self.clients[message.client].lease.as_ref().filter(|live| live.id == message.id);
        let is_late = match lease {
            // The lease has ended, or a release may have been sent, unless that waits for the answer to this claim.
            Some(live) => {
                let is_awaited = live.calls.contains(&(call, Verb::Claim as usize));
                let has_ended = matches!(live.machine.phase(), Phase::Ended(_) | Phase::Releasing(_));
                message.is_delayed && !is_awaited && has_ended
            }
            None => !is_known && (message.is_delayed || self.crashed.contains(&message.id)),
        };
        if is_late && request.verb() != Verb::Release {
            self.store.excuse(|entry| entry.id == message.id);
        }
        if message.is_claim() {
            self.crashed.remove(&message.id);
        }
        if !is_known && self.store.holds(message.id) {
            self.forced.remove(&message.id); // a claim without an answer has come again after the break
        }
        message.answered(answer)
    }

    pub(super) fn post(&mut self, bounds: &Bounds, sent: Vec<(usize, u8, Body)>) {
        let sent = sent.into_iter().filter(|_| bounds.terms.pushes);
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
        if let Body::Answer { call, verb, .. } = message.body
            && !live.calls.remove(&(call, verb))
        {
            return self.hear_again(message);
        }
        if message.body == Body::Broken {
            self.hear_of_a_break(message.client);
        }
        self.step(bounds, message.client, message.body.into_input());
    }

    /// An answer to a call that is over. A driver drops it, and a machine that gets it ignores it.
    fn hear_again(&mut self, message: Message) {
        let now = self.moment();
        let Some(live) = &self.clients[message.client].lease else { return };
        let mut effects = Effects::new();
        let mut machine = live.machine.clone();
        machine.step(now, message.body.into_input(), &mut effects);
        let is_in_time = live.machine.deadline().is_none_or(|deadline| now < deadline);
        if is_in_time && (machine != live.machine || !effects.is_empty()) {
            self.accuse("an answer to a call that is over changes nothing");
        }
    }

    fn hear_of_a_break(&mut self, client: usize) {
        let Some(live) = &self.clients[client].lease else { return };
        if self.store.alive(self.now).any(|entry| entry.id == live.id) {
            return; // a claim without an answer has come again after the break
        }
        let is_answered_soon = live.calls.iter().all(|(call, _)| !self.is_overdue(live.id, *call));
        let ends_now = is_answered_soon && live.machine.deadline().is_some();
        let live = self.clients[client].lease.as_mut().expect("it is there");
        live.heard = Some(live.calls.iter().map(|(call, _)| *call).max().unwrap_or_default());
        live.ends_now = ends_now;
    }

    /// A mishap of a client's messages: its questions need not be answered within this second.
    pub(super) fn disturb(&mut self, client: usize) {
        if let Some(live) = &mut self.clients[client].lease {
            live.ends_now = false;
        }
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

    /// The number of clients that believe that they hold the lock, without those whose lock was broken by force less
    /// than a TTL ago.
    pub(super) fn believers(&self) -> usize {
        let believes = |client: &&Client| {
            let live =
                client.lease.as_ref().filter(|live| self.forced.get(&live.id).is_none_or(|until| *until <= self.now));
            live.and_then(|live| live.machine.deadline()).is_some_and(|deadline| self.moment() < deadline)
        };
        self.clients.iter().filter(believes).count()
    }
}
