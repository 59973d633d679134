//! A model of clients, a store and the network between them, for a model checker.
//!
//! The machine in it is the one that ships. The store keeps the rules of the [contract](crate::Backend). The clock advances
//! by seconds; within one of them, everything that can happen happens in any order: requests arrive and are answered, events
//! arrive, timers fire, users act. Only a mishap, of which each kind has a budget, takes longer or goes wrong: the world
//! loses, delays, reorders and repeats requests, answers and events, and lets clients crash and stand still.
//!
//! Two things are excused. A holder whose lock is broken by force believes in it until it hears of that. A claim that arrives
//! after its release was confirmed, because the network has kept it or a copy of it, makes a lease that lives for its TTL.
//!
//! Left out: clocks that run at different speeds (the margin of a deadline is for these), stores that forget (a restart
//! grace is for these), failures of one lease in a batch of many, since a lease does not know its batch.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use stateright::{Checker as _, Expectation, Model, Property};

use super::{
    Effect, Effects, Fault, Hint, Input, Lease, Order, Phase, Refusal, ReleaseOutcome, Renewal, Reply, Terms, Verb,
    Wait,
};
use crate::clock::Moment;
use crate::contract::{Acquired, Extended, Grant, Place, Released, Token, Ttl};

/// The bounds of an exploration.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) clients: usize,
    pub(crate) capacity: usize,
    /// Locks that each client takes one after the other.
    pub(crate) locks: u8,
    /// The last second.
    pub(crate) horizon: u64,
    pub(crate) budget: Budget,
    /// The only client whose messages have mishaps.
    pub(crate) victim: Option<usize>,
    pub(crate) terms: Terms,
}

/// Mishaps that are left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Requests, answers and events that are lost.
    pub(crate) losses: u8,
    /// Requests, answers and events that arrive seconds later.
    pub(crate) delays: u8,
    /// Clients that stand still, for as long as they like.
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
    /// Extensions that a holder asks for, watchdogs that it stops.
    pub(crate) wishes: u8,
}

/// One state of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// Seconds.
    now: u64,
    store: Store,
    clients: Vec<Client>,
    network: BTreeSet<Message>,
    budget: Budget,
    /// The leases that were broken by force.
    forced: BTreeSet<u8>,
    /// The token of the last grant that a client believed.
    last_token: u64,
    /// The first broken promise.
    broken: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Store {
    held: Vec<Held>,
    queue: Vec<Entry>,
    last_token: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Held {
    entry: Entry,
    token: u64,
}

/// A lease, as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Entry {
    id: u8,
    client: usize,
    expires: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Client {
    lease: Option<Live>,
    locks_left: u8,
    is_frozen: bool,
}

/// A lease with what its driver knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Live {
    id: u8,
    machine: Lease,
    /// The calls under way and their verbs.
    calls: BTreeSet<(u32, usize)>,
    user: User,
    /// Extensions that the holder waits for.
    tickets: BTreeSet<u64>,
    is_lost: bool,
}

/// What the user of a lease does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum User {
    Waits,
    Holds,
    /// Waits for the release.
    Unlocks,
    /// Has no interest any more.
    Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Message {
    client: usize,
    id: u8,
    is_delayed: bool,
    body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Body {
    Request { call: u32, request: Request },
    Answer { call: u32, answer: Response },
    Granted(u64),
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Request {
    Claim { queue: bool },
    Extend { seconds: u64 },
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Response {
    Held { token: u64, left: u64 },
    Queued { ask_again: u64 },
    Busy,
    Gone { taken: bool },
    Released,
    Absent,
    NotApplied,
}

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
    /// The driver gives a call up.
    TimeOut(usize, u32),
    Freeze(usize),
    Thaw(usize),
}

const VERBS: [Verb; 3] = [Verb::Claim, Verb::Extend, Verb::Release];

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
    Terms { ttl, wait, retry_for: Duration::from_secs(2), renewal, queues: true, pushes: true, seed: 0 }
}

impl Message {
    fn is_request(self) -> bool {
        matches!(self.body, Body::Request { .. })
    }
}

impl Store {
    /// Ends what has expired, and grants what that makes room for.
    fn settle(&mut self, now: u64, capacity: usize, sent: &mut Vec<(usize, u8, Body)>) {
        self.held.retain(|held| held.entry.expires > now);
        self.queue.retain(|entry| entry.expires > now);
        while self.held.len() < capacity && !self.queue.is_empty() {
            let entry = self.queue.remove(0);
            let token = self.grant(entry);
            sent.push((entry.client, entry.id, Body::Granted(token)));
        }
    }

    fn grant(&mut self, entry: Entry) -> u64 {
        self.last_token += 1;
        self.held.push(Held { entry, token: self.last_token });
        self.last_token
    }

    fn apply(
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
                let entry = Entry { id, client: message.client, expires: now + bounds.ttl() };
                if self.held.len() < bounds.capacity {
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
            Request::Release => {
                let before = self.held.len() + self.queue.len();
                self.held.retain(|held| held.entry.id != id);
                self.queue.retain(|entry| entry.id != id);
                let is_gone = self.held.len() + self.queue.len() < before;
                self.settle(now, bounds.capacity, sent);
                if is_gone { Response::Released } else { Response::Absent }
            }
        }
    }

    fn state_of(&self, id: u8, now: u64) -> Option<Response> {
        if let Some(held) = self.held.iter().find(|held| held.entry.id == id) {
            return Some(Response::Held { token: held.token, left: held.entry.expires - now });
        }
        let ahead = self.queue.iter().position(|entry| entry.id == id)?;
        let holder = self.held.iter().map(|held| held.entry.expires).min().unwrap_or(now);
        let in_front = if ahead == 0 { holder } else { self.queue[ahead - 1].expires };
        Some(Response::Queued { ask_again: in_front - now })
    }
}

impl World {
    fn moment(&self) -> Moment {
        Bounds::moment(self.now)
    }

    fn accuse(&mut self, promise: &'static str) {
        self.broken.get_or_insert(promise);
    }

    /// Moves a lease on, and does what a driver does.
    fn step(&mut self, bounds: &Bounds, client: usize, input: Input) {
        let mut effects = Effects::new();
        let now = self.moment();
        let Some(live) = &mut self.clients[client].lease else { return };
        let is_gone = matches!(input, Input::Extended(_, Ok(Extended::Gone { .. })));
        let is_past = live.machine.deadline().is_some_and(|deadline| deadline <= now);
        live.machine.step(now, input, &mut effects);
        let is_held = live.machine.deadline().is_some();
        let is_ended = matches!(live.machine.phase(), Phase::Ended(_));
        let is_signalled = live.is_lost || effects.iter().any(|effect| matches!(effect, Effect::Lose(_)));
        let is_unsignalled = is_ended && live.user == User::Holds && !is_signalled;
        if is_past && is_held {
            self.accuse("a lock past its deadline is lost");
        } else if is_gone && is_held {
            self.accuse("the store's word ends a lock");
        } else if is_unsignalled {
            self.accuse("a loss is signalled");
        }
        self.carry_out(bounds, client, effects);
    }

    fn carry_out(&mut self, bounds: &Bounds, client: usize, effects: Effects) {
        let now = self.moment();
        let mut is_settled = false;
        let mut begins_again = false;
        for effect in effects {
            let Some(live) = &mut self.clients[client].lease else { return };
            match effect {
                Effect::Send(verb) => self.send(client, verb, now),
                Effect::Lose(_) => {
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
                Effect::Reply(ticket, reply) => {
                    if !live.tickets.remove(&ticket) {
                        self.accuse("an extension is answered once");
                    } else if reply == Reply::Extended && live.machine.deadline().is_none() {
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
                Effect::Settle => is_settled = true,
            }
        }
        let Some(live) = &self.clients[client].lease else { return };
        if is_settled != (*live.machine.phase() == Phase::Settled) {
            self.accuse("a lease that is settled says so");
        } else if is_settled {
            if live.user != User::Left {
                self.accuse("a user is told before the lease is settled");
            } else if !live.tickets.is_empty() {
                self.accuse("an extension is answered before the lease is settled");
            }
            self.clients[client].lease = None;
        } else if begins_again {
            self.step(bounds, client, Input::LetGo);
        }
    }

    fn send(&mut self, client: usize, verb: Verb, now: Moment) {
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
            Order::Release => Request::Release,
        };
        let body = Body::Request { call, request };
        self.network.insert(Message { client, id, is_delayed: false, body });
    }

    /// A request arrives at the store, whose answer is on its way then.
    fn arrive(&mut self, bounds: &Bounds, message: &Message) -> Message {
        let Body::Request { call, request } = message.body else { unreachable!("it is a request") };
        let mut sent = Vec::new();
        let answer = self.store.apply(self.now, bounds, message, request, &mut sent);
        self.post(sent);
        Message { body: Body::Answer { call, answer }, is_delayed: false, ..*message }
    }

    fn post(&mut self, sent: Vec<(usize, u8, Body)>) {
        for (client, id, body) in sent {
            self.network.insert(Message { client, id, is_delayed: false, body });
        }
    }

    /// A message arrives at its client.
    fn receive(&mut self, bounds: &Bounds, message: Message) {
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

    fn deliver(&mut self, bounds: &Bounds, message: Message) {
        let received = if message.is_request() { self.arrive(bounds, &message) } else { message };
        self.receive(bounds, received);
    }

    /// Whether everything has happened that has to happen within this second.
    fn is_over(&self) -> bool {
        let is_at_rest = |client: &Client| {
            let timer = client.lease.as_ref().and_then(|live| live.machine.timer());
            client.is_frozen || timer.is_none_or(|timer| timer > self.moment())
        };
        self.network.iter().all(|message| message.is_delayed) && self.clients.iter().all(is_at_rest)
    }

    /// Whether a call waits for an answer that is late or lost.
    fn is_overdue(&self, id: u8, call: u32) -> bool {
        self.network.iter().all(|message| match message.body {
            Body::Request { call: other, .. } | Body::Answer { call: other, .. } => {
                message.id != id || other != call || message.is_delayed
            }
            Body::Granted(_) | Body::Broken => true,
        })
    }

    /// The clients that believe that they hold the lock, without those whose lock was broken by force.
    fn believers(&self) -> usize {
        let believes = |client: &&Client| {
            let live = client.lease.as_ref().filter(|live| !self.forced.contains(&live.id));
            live.and_then(|live| live.machine.deadline()).is_some_and(|deadline| self.moment() < deadline)
        };
        self.clients.iter().filter(believes).count()
    }
}

fn input_of(verb: Verb, call: u32, answer: Response) -> Input {
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

fn unknown(verb: Verb, call: u32) -> Input {
    match verb {
        Verb::Claim => Input::Claimed(call, Err(Fault::Unknown)),
        Verb::Extend => Input::Extended(call, Err(Fault::Unknown)),
        Verb::Release => Input::Released(call, Err(Fault::Unknown)),
    }
}

impl Model for Bounds {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let client = Client { lease: None, locks_left: self.locks, is_frozen: false };
        vec![World {
            now: 0,
            store: Store { held: Vec::new(), queue: Vec::new(), last_token: 0 },
            clients: vec![client; self.clients],
            network: BTreeSet::new(),
            budget: self.budget,
            forced: BTreeSet::new(),
            last_token: 0,
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
                world.step(self, client, Input::LetGo);
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
                world.clients[client].lease = None;
                world.clients[client].locks_left = 0;
                world.clients[client].is_frozen = false;
            }
            Action::Break => {
                world.budget.breaks -= 1;
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
                    live.machine.deadline().is_none_or(|deadline| timer.is_some_and(|timer| timer <= deadline))
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
        (
            "two clients",
            Bounds { horizon: 5, ..with(Budget { losses: 1, delays: 1, freezes: 1, crashes: 1, give_ups: 1, ..none }) },
        ),
        (
            "two clients that lock twice",
            Bounds { locks: 2, horizon: 5, ..with(Budget { losses: 1, delays: 1, repeats: 1, refusals: 1, ..none }) },
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
    let checker = bounds.checker().threads(2).spawn_bfs().join();
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
