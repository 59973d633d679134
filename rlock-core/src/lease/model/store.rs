//! The store of the model: the rules of the contract for one resource.

use super::Bounds;
use super::message::{Body, Message, Request, Response};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Store {
    pub(super) held: Vec<Held>,
    pub(super) queue: Vec<Entry>,
    /// The ends of the rests.
    pub(super) rests: Vec<u64>,
    pub(super) last_token: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) entry: Entry,
    pub(super) token: u64,
}

/// A lease in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) id: u8,
    pub(super) client: usize,
    pub(super) expires: u64,
    /// Its client cannot know that it has to release this lease.
    pub(super) is_excused: bool,
}

impl Store {
    /// Removes expired leases and rests, and grants the waiters that fit then.
    pub(super) fn settle(&mut self, now: u64, capacity: usize, sent: &mut Vec<(usize, u8, Body)>) {
        self.held.retain(|held| held.entry.expires > now);
        self.queue.retain(|entry| entry.expires > now);
        self.rests.retain(|until| *until > now);
        while self.has_room(capacity) && !self.queue.is_empty() {
            let entry = self.queue.remove(0);
            let token = self.grant(entry);
            sent.push((entry.client, entry.id, Body::Granted(token)));
        }
    }

    fn has_room(&self, capacity: usize) -> bool {
        self.held.len() + self.rests.len() < capacity
    }

    pub(super) fn grant(&mut self, entry: Entry) -> u64 {
        self.last_token += 1;
        self.held.push(Held { entry, token: self.last_token });
        self.last_token
    }

    /// The leases that have not expired.
    pub(super) fn alive(&self, now: u64) -> impl Iterator<Item = &Entry> {
        let entries = self.held.iter().map(|held| &held.entry).chain(&self.queue);
        entries.filter(move |entry| entry.expires > now)
    }

    pub(super) fn holds(&self, id: u8) -> bool {
        self.held.iter().any(|held| held.entry.id == id)
    }

    pub(super) fn excuse(&mut self, is_meant: impl Fn(&Entry) -> bool) {
        let held = self.held.iter_mut().map(|held| &mut held.entry);
        held.chain(&mut self.queue).filter(|entry| is_meant(entry)).for_each(|entry| entry.is_excused = true);
    }

    /// The client of this lease has to release it, also if it was excused from that.
    pub(super) fn expect_release(&mut self, id: u8) {
        if let Some(held) = self.held.iter_mut().find(|held| held.entry.id == id) {
            held.entry.is_excused = false;
        }
    }

    pub(super) fn apply(
        &mut self,
        now: u64,
        bounds: &Bounds,
        message: &Message,
        request: Request,
        sent: &mut Vec<(usize, u8, Body)>,
    ) -> Response {
        self.settle(now, bounds.capacity, sent);
        let id = message.id;
        match request {
            Request::Claim { queue } => {
                if let Some(state) = self.state_of(id, now) {
                    return state;
                }
                let entry = Entry { id, client: message.client, expires: now + bounds.ttl(), is_excused: false };
                if self.has_room(bounds.capacity) {
                    let token = self.grant(entry);
                    return Response::Held { token, left: bounds.ttl() };
                }
                if !queue {
                    return Response::Busy;
                }
                self.queue.push(entry);
                self.state_of(id, now).expect("it was just queued")
            }
            Request::Extend { seconds } => {
                let held = self.held.iter_mut().map(|held| &mut held.entry);
                if let Some(entry) = held.chain(&mut self.queue).find(|entry| entry.id == id) {
                    entry.expires = entry.expires.max(now + seconds);
                }
                self.state_of(id, now).unwrap_or(Response::Gone { taken: !self.held.is_empty() })
            }
            Request::Release { rest } => {
                if rest > 0 && self.holds(id) {
                    self.rests.push(now + rest);
                }
                let before = self.held.len() + self.queue.len();
                self.held.retain(|held| held.entry.id != id);
                self.queue.retain(|entry| entry.id != id);
                let is_gone = self.held.len() + self.queue.len() < before;
                self.settle(now, bounds.capacity, sent);
                if is_gone { Response::Released } else { Response::Absent }
            }
        }
    }

    pub(super) fn state_of(&self, id: u8, now: u64) -> Option<Response> {
        if let Some(held) = self.held.iter().find(|held| held.entry.id == id) {
            return Some(Response::Held { token: held.token, left: held.entry.expires - now });
        }
        let ahead = self.queue.iter().position(|entry| entry.id == id)?;
        let ends = self.held.iter().map(|held| held.entry.expires).chain(self.rests.iter().copied());
        let holder = ends.min().unwrap_or(now);
        let in_front = if ahead == 0 { holder } else { self.queue[ahead - 1].expires };
        Some(Response::Queued { ask_again: in_front - now })
    }
}
