//! The moves of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stateright::{Model, Property};

use super::live::{Client, Live, User};
use super::message::{Body, Message, Request, Response, VERBS, unknown};
use super::store::{Held, Store};
use super::world::World;
use super::{Bounds, properties};
use crate::lease::{Effects, Input, Lease, Renewal};

/// A step of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Tick,
    Lock(usize),
    Timer(usize),
    Unlock(usize),
    GiveUp(usize),
    /// A holder leaves its lock to another client.
    HandOver(usize),
    /// A client claims the lock that another has handed over.
    Adopt(usize),
    /// The user learns that its client has adopted the lock.
    Adopted(usize),
    Extend(usize),
    Unwatch(usize),
    /// A holder replaces its watchdog.
    Watch(usize),
    /// The client shuts down.
    Close(usize),
    /// The store reports that events may have been lost.
    Resync(usize),
    Crash(usize),
    Break,
    Deliver(Message),
    /// A request arrives, and another copy of it is on its way.
    Repeat(Message),
    /// An answer or an event arrives, and another copy of it is on its way. For a request, this means its answer.
    Echo(Message),
    /// The store cannot apply a request now.
    Refuse(Message),
    /// The store refuses a request for good.
    Reject(Message),
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
            forced: BTreeMap::new(),
            crashed: BTreeSet::new(),
            handed_over: None,
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
                if world.handed_over.is_some_and(|handed_over| handed_over.client != at) {
                    actions.push(Action::Adopt(at));
                }
                continue;
            };
            if live.machine.timer().is_some_and(|timer| timer <= world.moment()) {
                actions.push(Action::Timer(at));
            }
            if live.user == User::Adopts {
                actions.push(Action::Adopted(at));
            }
            match live.user {
                User::Holds => {
                    actions.push(Action::Unlock(at));
                    let is_in_time = live.machine.deadline().is_some_and(|deadline| world.moment() < deadline);
                    if budget.hand_overs > 0 && is_in_time {
                        actions.push(Action::HandOver(at));
                    }
                    if budget.wishes > 0 && live.machine.deadline().is_some() {
                        actions.push(Action::Extend(at));
                        actions.push(Action::Unwatch(at));
                    }
                    if budget.watches > 0 && live.machine.deadline().is_some() {
                        actions.push(Action::Watch(at));
                    }
                }
                User::Waits | User::Adopts if budget.give_ups > 0 => actions.push(Action::GiveUp(at)),
                _ => {}
            }
            if budget.closes > 0 {
                actions.push(Action::Close(at));
            }
            if budget.resyncs > 0 {
                actions.push(Action::Resync(at));
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
            let can_be_late = budget.delays > 0 || budget.late_answers > 0 && !message.is_request();
            if can_be_late && !message.is_delayed {
                actions.push(Action::Delay(message));
            }
            if budget.echoes > 0 && !world.clients[message.client].is_frozen {
                actions.push(Action::Echo(message));
            }
            if message.is_request() {
                if budget.losses > 0 {
                    actions.push(Action::LoseAnswer(message));
                }
                if budget.delays > 0 || budget.late_answers > 0 {
                    actions.push(Action::DelayAnswer(message));
                }
                if budget.repeats > 0 {
                    actions.push(Action::Repeat(message));
                }
                if budget.refusals > 0 {
                    actions.push(Action::Refuse(message));
                }
                if budget.rejections > 0 {
                    actions.push(Action::Reject(message));
                }
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::Tick => {
                if let Some(promise) = properties::broken_by_a_tick(self, &mut world) {
                    world.accuse(promise);
                }
                world.now += 1;
            }
            Action::Lock(client) => {
                let mut effects = Effects::new();
                let machine = Lease::new(self.terms.clone(), world.moment(), &mut effects);
                world.clients[client].locks_left -= 1;
                let id = u8::try_from(client * 8).expect("few clients") + world.clients[client].locks_left;
                world.clients[client].lease = Some(Live::new(id, machine, world.now));
                world.carry_out(self, client, effects);
            }
            Action::Timer(client) => world.step(self, client, Input::Timer),
            Action::Unlock(client) => {
                world.clients[client].lease.as_mut()?.user = User::Unlocks(world.now);
                world.step(self, client, Input::LetGo);
            }
            Action::GiveUp(client) => {
                world.budget.give_ups -= 1;
                world.give_up(self, client);
            }
            Action::HandOver(client) => {
                world.budget.hand_overs -= 1;
                world.hand_over(self, client);
            }
            Action::Adopt(client) => world.adopt(self, client),
            Action::Adopted(client) => world.adopted(self, client),
            Action::Extend(client) => {
                world.budget.wishes -= 1;
                let ticket = u64::from(world.budget.wishes);
                world.clients[client].lease.as_mut()?.tickets.insert(ticket, world.now);
                let retry_until = world.moment().after(Duration::from_secs(1));
                world.step(self, client, Input::Extend { ttl: self.longest(), ticket, retry_until });
            }
            Action::Unwatch(client) => {
                world.budget.wishes -= 1;
                world.step(self, client, Input::Unwatch { generation: 1 });
            }
            Action::Watch(client) => {
                world.budget.watches -= 1;
                let interval = Duration::from_secs(1);
                let renewal = Renewal { generation: 2, interval, extend_by: self.longest(), max_failures: None };
                world.step(self, client, Input::Watch(renewal));
            }
            Action::Close(client) => {
                world.budget.closes -= 1;
                world.close(self, client);
            }
            Action::Resync(client) => {
                world.budget.resyncs -= 1;
                world.resync(self, client);
            }
            Action::Crash(client) => {
                world.budget.crashes -= 1;
                world.crash(client);
            }
            Action::Break => {
                world.budget.breaks -= 1;
                world.kept = None;
                world.store.rests.clear();
                let broken: Vec<Held> = world.store.held.drain(..).collect();
                let until = world.now + self.longest().get().as_secs();
                world.forced.extend(broken.iter().map(|held| (held.entry.id, until)));
                let mut sent = Vec::new();
                sent.extend(broken.iter().map(|held| (held.entry.client, held.entry.id, Body::Broken)));
                world.store.settle(world.now, self.capacity, &mut sent);
                world.post(self, sent);
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
            Action::Echo(message) => {
                world.budget.echoes -= 1;
                world.network.remove(&message);
                let received = if message.is_request() { world.arrive(self, &message) } else { message };
                world.network.insert(Message { is_delayed: true, ..received });
                world.receive(self, received);
            }
            Action::Refuse(message) => {
                world.budget.refusals -= 1;
                world.disturb(message.client);
                world.network.remove(&message);
                world.receive(self, message.answered(Response::NotApplied));
            }
            Action::Reject(message) => {
                world.budget.rejections -= 1;
                world.disturb(message.client);
                world.network.remove(&message);
                if matches!(message.body, Body::Request { request: Request::Release { .. }, .. }) {
                    world.store.excuse(|entry| entry.id == message.id);
                }
                world.receive(self, message.answered(Response::Rejected));
                let waits = |live: &Live| live.id == message.id && live.user == User::Waits;
                if world.clients[message.client].lease.as_ref().is_some_and(waits) {
                    world.accuse("a waiter learns that the store refuses it");
                }
            }
            Action::Lose(message) => {
                world.budget.losses -= 1;
                world.disturb(message.client);
                world.network.remove(&message);
            }
            Action::LoseAnswer(message) => {
                world.budget.losses -= 1;
                world.disturb(message.client);
                world.network.remove(&message);
                world.arrive(self, &message);
            }
            Action::Delay(message) => {
                world.budget.delay(message.is_request());
                world.disturb(message.client);
                world.network.remove(&message);
                world.network.insert(Message { is_delayed: true, ..message });
            }
            Action::DelayAnswer(message) => {
                world.budget.delay(false);
                world.disturb(message.client);
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
                world.keep_no_longer(client);
                world.clients[client].is_frozen = true;
                world.disturb(client);
            }
            Action::Thaw(client) => world.clients[client].is_frozen = false,
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
