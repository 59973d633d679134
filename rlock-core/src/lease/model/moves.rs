//! The moves of the model, and the properties of every state.

use std::collections::BTreeSet;
use std::time::Duration;

use stateright::{Model, Property};

use super::Bounds;
use super::message::{Body, Message, Response};
use super::store::{Held, Store};
use super::world::{Client, Live, User, VERBS, World, unknown};
use crate::lease::{Effects, Input, Lease, Phase};

/// A step of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Tick,
    Lock(usize),
    Timer(usize),
    Unlock(usize),
    GiveUp(usize),
    Extend(usize),
    Unwatch(usize),
    Crash(usize),
    Break,
    Deliver(Message),
    /// A request arrives, and another copy of it is on its way.
    Repeat(Message),
    Refuse(Message),
    Lose(Message),
    LoseAnswer(Message),
    Delay(Message),
    DelayAnswer(Message),
    /// The driver gives up a call.
    TimeOut(usize, u32),
    Freeze(usize),
    Thaw(usize),
}

impl Model for Bounds {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let client = Client { lease: None, locks_left: self.locks, is_frozen: false };
        vec![World {
            now: 0,
            store: Store { held: Vec::new(), queue: Vec::new(), rests: Vec::new(), last_token: 0 },
            clients: vec![client; self.clients],
            network: BTreeSet::new(),
            budget: self.budget,
            forced: BTreeSet::new(),
            last_token: 0,
            kept: None,
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        if world.now < self.horizon && world.is_over() {
            actions.push(Action::Tick);
        }
        let budget = &world.budget;
        if budget.breaks > 0 && !world.store.held.is_empty() {
            actions.push(Action::Break);
        }
        for (at, client) in world.clients.iter().enumerate() {
            if client.is_frozen {
                actions.push(Action::Thaw(at));
                continue;
            }
            let Some(live) = &client.lease else {
                if client.locks_left > 0 {
                    actions.push(Action::Lock(at));
                }
                continue;
            };
            if live.machine.timer().is_some_and(|timer| timer <= world.moment()) {
                actions.push(Action::Timer(at));
            }
            match live.user {
                User::Holds => {
                    actions.push(Action::Unlock(at));
                    if budget.wishes > 0 && live.machine.deadline().is_some() {
                        actions.push(Action::Extend(at));
                        actions.push(Action::Unwatch(at));
                    }
                }
                User::Waits if budget.give_ups > 0 => actions.push(Action::GiveUp(at)),
                _ => {}
            }
            if budget.crashes > 0 {
                actions.push(Action::Crash(at));
            }
            if budget.freezes > 0 {
                actions.push(Action::Freeze(at));
            }
            let overdue = live.calls.iter().filter(|(call, _)| world.is_overdue(live.id, *call));
            actions.extend(overdue.map(|(call, _)| Action::TimeOut(at, *call)));
        }
        for &message in &world.network {
            if message.is_request() || !world.clients[message.client].is_frozen {
                actions.push(Action::Deliver(message));
            }
            if self.victim.is_some_and(|victim| victim != message.client) {
                continue;
            }
            if budget.losses > 0 {
                actions.push(Action::Lose(message));
            }
            if budget.delays > 0 && !message.is_delayed {
                actions.push(Action::Delay(message));
            }
            if message.is_request() {
                if budget.losses > 0 {
                    actions.push(Action::LoseAnswer(message));
                }
                if budget.delays > 0 {
                    actions.push(Action::DelayAnswer(message));
                }
                if budget.repeats > 0 {
                    actions.push(Action::Repeat(message));
                }
                if budget.refusals > 0 {
                    actions.push(Action::Refuse(message));
                }
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::Tick => {
                let until = self.terms.wait.until().is_some_and(|until| until <= world.moment());
                let waits = |client: &Client| client.lease.as_ref().is_some_and(|live| live.user == User::Waits);
                if until && world.clients.iter().any(|client| !client.is_frozen && waits(client)) {
                    world.accuse("a waiter is told when its wait ends");
                }
                world.now += 1;
            }
            Action::Lock(client) => {
                let mut effects = Effects::new();
                let machine = Lease::new(self.terms.clone(), world.moment(), &mut effects);
                world.clients[client].locks_left -= 1;
                let id = u8::try_from(client * 8).expect("few clients") + world.clients[client].locks_left;
                let live = Live {
                    id,
                    machine,
                    calls: BTreeSet::new(),
                    user: User::Waits,
                    tickets: BTreeSet::new(),
                    limit: None,
                    is_lost: false,
                };
                world.clients[client].lease = Some(live);
                world.carry_out(self, client, effects);
            }
            Action::Timer(client) => world.step(self, client, Input::Timer),
            Action::Unlock(client) => {
                world.clients[client].lease.as_mut()?.user = User::Unlocks;
                world.step(self, client, Input::LetGo);
            }
            Action::GiveUp(client) => {
                world.budget.give_ups -= 1;
                world.clients[client].lease.as_mut()?.user = User::Left;
                world.step(self, client, Input::GiveUp);
            }
            Action::Extend(client) => {
                world.budget.wishes -= 1;
                let ticket = u64::from(world.budget.wishes);
                world.clients[client].lease.as_mut()?.tickets.insert(ticket);
                let retry_until = world.moment().after(Duration::from_secs(1));
                world.step(self, client, Input::Extend { ttl: self.terms.ttl, ticket, retry_until });
            }
            Action::Unwatch(client) => {
                world.budget.wishes -= 1;
                world.step(self, client, Input::Unwatch { generation: 1 });
            }
            Action::Crash(client) => {
                world.budget.crashes -= 1;
                world.kept = None; // the lease may have ended before that time
                world.clients[client].lease = None;
                world.clients[client].locks_left = 0;
                world.clients[client].is_frozen = false;
            }
            Action::Break => {
                world.budget.breaks -= 1;
                world.kept = None;
                world.store.rests.clear();
                let broken: Vec<Held> = world.store.held.drain(..).collect();
                world.forced.extend(broken.iter().map(|held| held.entry.id));
                let mut sent = Vec::new();
                sent.extend(broken.iter().map(|held| (held.entry.client, held.entry.id, Body::Broken)));
                world.store.settle(world.now, self.capacity, &mut sent);
                world.post(sent);
            }
            Action::Deliver(message) => {
                world.network.remove(&message);
                world.deliver(self, message);
            }
            Action::Repeat(message) => {
                world.budget.repeats -= 1;
                world.network.remove(&message);
                world.network.insert(Message { is_delayed: true, ..message });
                world.deliver(self, message);
            }
            Action::Refuse(message) => {
                world.budget.refusals -= 1;
                world.network.remove(&message);
                let Body::Request { call, .. } = message.body else { return None };
                let body = Body::Answer { call, answer: Response::NotApplied };
                world.receive(self, Message { body, ..message });
            }
            Action::Lose(message) => {
                world.budget.losses -= 1;
                world.network.remove(&message);
            }
            Action::LoseAnswer(message) => {
                world.budget.losses -= 1;
                world.network.remove(&message);
                world.arrive(self, &message);
            }
            Action::Delay(message) => {
                world.budget.delays -= 1;
                world.network.remove(&message);
                world.network.insert(Message { is_delayed: true, ..message });
            }
            Action::DelayAnswer(message) => {
                world.budget.delays -= 1;
                world.network.remove(&message);
                let answer = world.arrive(self, &message);
                world.network.insert(Message { is_delayed: true, ..answer });
            }
            Action::TimeOut(client, call) => {
                let live = world.clients[client].lease.as_mut()?;
                let under_way = live.calls.iter().copied().find(|(number, _)| *number == call)?;
                live.calls.remove(&under_way);
                world.step(self, client, unknown(VERBS[under_way.1], call));
            }
            Action::Freeze(client) => {
                world.budget.freezes -= 1;
                world.kept = None;
                world.clients[client].is_frozen = true;
            }
            Action::Thaw(client) => world.clients[client].is_frozen = false,
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("exclusion", |bounds: &Self, world: &World| world.believers() <= bounds.capacity),
            Property::always("promises", |_, world: &World| world.broken.is_none()),
            Property::always("no lease sleeps for ever", |_, world: &World| {
                world.clients.iter().filter_map(|client| client.lease.as_ref()).all(|live| {
                    let is_ended = matches!(live.machine.phase(), Phase::Ended(_));
                    is_ended || live.machine.timer().is_some() || !live.calls.is_empty()
                })
            }),
            Property::always("a loss is signalled by its deadline", |_, world: &World| {
                world.clients.iter().filter_map(|client| client.lease.as_ref()).all(|live| {
                    let timer = live.machine.timer();
                    live.machine.deadline().is_none_or(|deadline| {
                        let end = live.limit.map_or(deadline, |limit| deadline.min(Self::moment(limit)));
                        timer.is_some_and(|timer| timer <= end)
                    })
                })
            }),
            Property::always("a quiet network leaves nothing behind", |bounds: &Self, world: &World| {
                let is_quiet = world.network.is_empty() && world.clients.iter().all(|client| client.lease.is_none());
                let is_left = world.store.held.iter().any(|held| held.entry.expires > world.now)
                    || world.store.queue.iter().any(|entry| entry.expires > world.now);
                // A claim that arrives after its release was confirmed lives for its TTL.
                let (left, all) = (&world.budget, &bounds.budget);
                let is_excused = left.crashes < all.crashes || left.delays < all.delays || left.repeats < all.repeats;
                !is_quiet || !is_left || is_excused
            }),
        ]
    }
}
