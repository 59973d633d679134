//! Messages on their way between the clients and the store of the model.

use super::Bounds;
use super::message::{Body, Message, Request};
use super::world::World;
use crate::clock::Moment;
use crate::lease::{Effects, Hint, Input, Order, Phase, Verb, Wait};

impl World {
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
            // A claim without an answer has come again. If that was after a break, the store has another lease of this id.
            let was_broken = self.forced.remove(&message.id).is_some();
            if let Some(live) = self.clients[message.client].lease.as_mut().filter(|live| live.id == message.id) {
                live.is_endangered |= was_broken;
            }
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
        let Some(live) = &mut self.clients[client].lease else { return };
        live.is_endangered = true;
        let (id, calls) = (live.id, live.calls.clone());
        if self.store.alive(self.now).any(|entry| entry.id == id) {
            return; // a claim without an answer has come again after the break
        }
        let is_answered_soon = calls.iter().all(|(call, _)| !self.is_overdue(id, *call));
        let live = self.clients[client].lease.as_mut().expect("it is there");
        live.heard = Some(calls.iter().map(|(call, _)| *call).max().unwrap_or_default());
        live.has_to_know = is_answered_soon && live.machine.deadline().is_some();
    }

    /// The store reports that events may have been lost.
    pub(super) fn resync(&mut self, bounds: &Bounds, client: usize) {
        let Some(live) = &self.clients[client].lease else { return };
        let is_answered_soon = live.calls.iter().all(|(call, _)| !self.is_overdue(live.id, *call));
        let live = self.clients[client].lease.as_mut().expect("it is there");
        live.has_to_know |= is_answered_soon && !matches!(live.machine.phase(), Phase::Claiming(_));
        self.step(bounds, client, Input::Hint(Hint::Resync));
    }

    /// A mishap of a client's messages, or of the client.
    pub(super) fn disturb(&mut self, client: usize) {
        let (now, stands_still) = (self.moment(), self.clients[client].is_frozen);
        if let Some(live) = &mut self.clients[client].lease {
            live.disturb(now, stands_still);
        }
    }

    pub(super) fn deliver(&mut self, bounds: &Bounds, message: Message) {
        let received = if message.is_request() { self.arrive(bounds, &message) } else { message };
        self.receive(bounds, received);
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
}
