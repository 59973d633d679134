//! The state of the model: the store, the clients, and the messages between them.

use std::collections::{BTreeMap, BTreeSet};

use super::live::{Client, HandedOver, Live, User};
use super::message::Message;
use super::store::Store;
use super::{Bounds, Budget};
use crate::clock::Moment;
use crate::contract::Extended;
use crate::lease::{
    Effect, Effects, ExtendOutcome, Fault, Hint, Input, LossReason, Phase, Refusal, ReleaseOutcome, STRAY,
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
    /// A lease that another client may adopt.
    pub(super) handed_over: Option<HandedOver>,
    /// The token of the last grant that a client believed.
    pub(super) last_token: u64,
    /// The lease that was granted last with a minimum time, and the end of that time.
    pub(super) kept: Option<(u8, u64)>,
    /// The first broken promise.
    pub(super) broken: Option<&'static str>,
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
        let is_in_danger = live.is_endangered || self.forced.contains_key(&live.id);
        let is_old_news = is_older && !self.store.holds(live.id);
        if matches!(input, Input::Claimed(_, Err(Fault::Unknown))) {
            live.unanswered = Some(self.now);
        }
        let end = live.machine.deadline();
        let is_past = end.is_some_and(|end| end <= now);
        let is_limit_first = live.limit.is_some_and(|limit| end == Some(Bounds::moment(limit)));
        let is_over = live.limit.is_some_and(|limit| limit <= self.now);
        let before = live.machine.clone();
        let is_timer = input == Input::Timer;
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
        if is_timer && live.machine.timer().is_some_and(|timer| timer <= now) {
            self.accuse("a timer that fires is over");
        } else if is_past && is_held {
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
        } else if let Some(promise) = Live::broken_by_its_watchdog(&before, &effects, is_in_danger) {
            self.accuse(promise);
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
        if live.user == User::Adopts {
            live.user = User::Left;
            self.step(bounds, client, Input::Close);
            return self.expect_no_lease(client, "a shutdown leaves a lease that is being adopted");
        }
        let is_held = live.machine.deadline().is_some();
        if live.user == User::Holds {
            live.user = User::Unlocks(self.now); // the guard's user gets the outcome
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
                    } else if live.user == User::Adopts {
                        live.user = User::Left;
                        begins_again = true; // its client gives up the adoption
                    }
                }
                Effect::Grant(token) => {
                    if live.user != User::Waits {
                        self.accuse("a lock goes to a waiter, once");
                        continue;
                    }
                    let adopts = live.machine.terms().adopts;
                    live.user = if adopts.is_some() { User::Adopts } else { User::Holds };
                    live.is_endangered |= live.is_disturbed && live.has_little_life(now);
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
                    let least = if adopts.is_some() { self.last_token } else { self.last_token + 1 };
                    if adopts.is_some_and(|adopted| adopted != token) {
                        self.accuse("an adoption gets the lease that was handed over");
                    } else if token.get() < least && bounds.capacity == 1 {
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
                    if live.tickets.remove(&ticket).is_none() {
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
            } else if live.machine.terms().adopts.is_some() {
                // Without an answer, it does not know whether the lease is the one that was handed over.
                let (id, is_unanswered) = (live.id, live.unanswered.is_some());
                self.store.excuse(|entry| is_unanswered && entry.id == id);
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

    /// Whether everything that has to happen within this second has happened.
    pub(super) fn is_over(&self) -> bool {
        let is_at_rest = |client: &Client| {
            let timer = client.lease.as_ref().and_then(|live| live.machine.timer());
            client.is_frozen || timer.is_none_or(|timer| timer > self.moment())
        };
        self.network.iter().all(|message| message.is_delayed) && self.clients.iter().all(is_at_rest)
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
