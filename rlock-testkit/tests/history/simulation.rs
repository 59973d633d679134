//! A correct lock in virtual time, and processes that use it, die, freeze and lose their locks.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rlock_core::LossReason;
use rlock_testkit::history::{Entry, Op, What};

use crate::{asked_for, job, ms};

const TTL: u64 = 100;
/// How much earlier the deadline of a holder is than that of the store.
const MARGIN: u64 = 5;

/// The parameters of a simulation.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) processes: u32,
    pub(crate) capacity: u32,
    pub(crate) millis: u64,
    /// Whether faults happen.
    pub(crate) with_faults: bool,
}

/// Simulates a run to its end, and returns its entries. All instants are different.
pub(crate) fn simulate(plan: &Plan) -> Vec<Entry> {
    let mut world = World::new(plan);
    for now in 0..plan.millis {
        world.now = now;
        if plan.with_faults {
            world.misfortune();
        }
        world.expire();
        world.step(true);
    }
    world.come_to_rest();
    world.note(What::End);
    world.entries
}

struct World {
    chance: StdRng,
    now: u64,
    entries: Vec<Entry>,
    capacity: u32,
    is_up: bool,
    last_token: u64,
    /// In the order in which they were queued.
    leases: Vec<Lease>,
    processes: Vec<Process>,
    /// The greatest token seen, and the value.
    register: (u64, u64),
}

struct Lease {
    op: Op,
    weight: u32,
    token: Option<u64>,
    expires: u64,
}

struct Process {
    number: u32,
    next: u64,
    is_frozen: bool,
    asks: Vec<Ask>,
}

struct Ask {
    op: Op,
    weight: u32,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Waiting {
        patience: u64,
    },
    Holding {
        token: u64,
        deadline: u64,
        release: u64,
        read: Option<u64>,
    },
    /// The client has released the lease, and the holder does not know yet.
    GivenUp {
        deadline: u64,
    },
    Over,
}

impl World {
    fn new(plan: &Plan) -> Self {
        let new = |number| Process { number, next: 0, is_frozen: false, asks: Vec::new() };
        Self {
            chance: StdRng::seed_from_u64(plan.seed),
            now: 0,
            entries: Vec::new(),
            capacity: plan.capacity,
            is_up: true,
            last_token: 0,
            leases: Vec::new(),
            processes: (1..=plan.processes).map(new).collect(),
            register: (0, 0),
        }
    }

    fn note(&mut self, what: What) {
        let next = self.entries.last().map_or(Duration::ZERO, |entry| entry.at + Duration::from_nanos(1));
        self.entries.push(Entry { at: ms(self.now).max(next), what });
    }

    fn odds(&mut self, one_in: u32) -> bool {
        self.chance.random_ratio(1, one_in)
    }

    fn misfortune(&mut self) {
        for chosen in 0..self.processes.len() {
            let process = self.processes[chosen].number;
            if self.odds(1000) {
                self.note(What::Died { process });
                // Another process with the same number starts at once.
                self.processes[chosen].asks.clear();
                self.processes[chosen].is_frozen = false;
            } else if self.processes[chosen].is_frozen {
                if self.odds(80) {
                    self.processes[chosen].is_frozen = false;
                    self.note(What::Woken { process });
                }
            } else if self.odds(400) {
                self.processes[chosen].is_frozen = true;
                self.note(What::Frozen { process });
            }
        }
        if self.is_up && self.odds(500) {
            self.is_up = false;
            self.note(What::Down);
        } else if !self.is_up && self.odds(60) {
            self.is_up = true;
            self.note(What::Up);
        }
        if self.is_up && self.odds(700) {
            self.note(What::Breaking { resource: job() });
            self.leases.retain(|lease| lease.token.is_none());
        }
    }

    /// Runs without faults until no process wants a lock any more. Frozen processes may stay frozen.
    fn come_to_rest(&mut self) {
        if !self.is_up {
            self.is_up = true;
            self.note(What::Up);
        }
        for chosen in 0..self.processes.len() {
            if self.processes[chosen].is_frozen && self.odds(2) {
                self.processes[chosen].is_frozen = false;
                self.note(What::Woken { process: self.processes[chosen].number });
            }
        }
        while self.processes.iter().any(|process| !process.is_frozen && !process.asks.is_empty()) {
            self.now += 1;
            self.expire();
            self.step(false);
        }
    }

    fn step(&mut self, may_ask: bool) {
        for chosen in 0..self.processes.len() {
            if self.processes[chosen].is_frozen {
                continue;
            }
            if may_ask && self.processes[chosen].asks.len() < 2 && self.odds(20) {
                self.ask(chosen);
            }
            for mut ask in std::mem::take(&mut self.processes[chosen].asks) {
                ask.state = match ask.state {
                    State::Waiting { patience } => self.wait(&ask, patience),
                    State::Holding { token, deadline, release, read } => {
                        self.hold(&ask, token, deadline, release, read)
                    }
                    State::GivenUp { deadline } if self.odds(5) => self.lose(ask.op, LossReason::GaveUp, deadline),
                    other => other,
                };
                if !matches!(ask.state, State::Over) {
                    self.processes[chosen].asks.push(ask);
                }
            }
        }
    }

    fn ask(&mut self, chosen: usize) {
        let process = &mut self.processes[chosen];
        let op = Op { process: process.number, sequence: process.next };
        process.next += 1;
        let weight = if self.odds(2) { self.capacity } else { 1 };
        self.note(asked_for(op, weight, self.capacity));
        let patience = if self.odds(4) { 0 } else { self.chance.random_range(50..600) };
        let ask = Ask { op, weight, state: State::Waiting { patience: self.now + patience } };
        self.processes[chosen].asks.push(ask);
    }

    fn wait(&mut self, ask: &Ask, patience: u64) -> State {
        let op = ask.op;
        let (now, is_impatient) = (self.now, self.now >= patience);
        if !self.is_up {
            if is_impatient && self.odds(4) {
                self.note(What::Unknown { op });
                return State::Over;
            }
            return State::Waiting { patience };
        }
        if self.lease(op).is_none() {
            self.leases.push(Lease { op, weight: ask.weight, token: None, expires: 0 });
        }
        let expires = now + TTL;
        self.lease(op).expect("it was just queued").expires = expires;
        self.grant();
        if let Some(token) = self.lease(op).expect("it was just queued").token {
            let deadline = expires - MARGIN;
            self.note(What::Granted { op, token, until: ms(deadline) });
            let release = now + self.chance.random_range(1..120);
            return State::Holding { token, deadline, release, read: None };
        }
        if is_impatient {
            self.remove(op);
            self.note(What::Refused { op });
            return State::Over;
        }
        State::Waiting { patience }
    }

    fn hold(&mut self, ask: &Ask, token: u64, mut deadline: u64, release: u64, read: Option<u64>) -> State {
        let op = ask.op;
        if self.now >= deadline {
            return self.lose(op, LossReason::Expired, deadline);
        }
        if self.odds(3) {
            self.note(What::Believed { op, until: ms(deadline) });
        }
        let read = self.use_register(op, token, read);
        if self.now >= release {
            return self.release(op, deadline);
        }
        if self.is_up && self.odds(25) {
            let expires = self.now + TTL;
            let Some(lease) = self.lease(op) else {
                return self.lose(op, LossReason::Broken, deadline);
            };
            lease.expires = expires;
            deadline = expires - MARGIN;
        }
        if self.is_up && self.odds(300) {
            self.remove(op);
            return State::GivenUp { deadline };
        }
        State::Holding { token, deadline, release, read }
    }

    fn release(&mut self, op: Op, deadline: u64) -> State {
        self.note(What::Releasing { op });
        if !self.is_up {
            self.note(What::Released { op, known: false });
            return State::Over;
        }
        if self.lease(op).is_none() {
            return self.lose(op, LossReason::Gone, deadline);
        }
        self.remove(op);
        self.note(What::Released { op, known: true });
        State::Over
    }

    fn lose(&mut self, op: Op, reason: LossReason, deadline: u64) -> State {
        self.note(What::Lost { op, reason, until: Some(ms(deadline)) });
        State::Over
    }

    /// Opens the register, and later writes to it at random times.
    fn use_register(&mut self, op: Op, token: u64, read: Option<u64>) -> Option<u64> {
        if !self.odds(6) {
            return read;
        }
        let resource = job();
        let (greatest, value) = self.register;
        let is_stale = token < greatest;
        match read {
            None if is_stale => self.note(What::OpenRefused { op, resource, token }),
            None => self.note(What::Opened { op, resource, token, value }),
            Some(_) if is_stale => self.note(What::WriteRefused { op, resource, token }),
            Some(base) => self.note(What::Wrote { op, resource, token, base, value: value + 1 }),
        }
        match read {
            _ if is_stale => return read,
            None => self.register = (token, value),
            Some(_) => self.register = (token, value + 1),
        }
        Some(self.register.1)
    }

    fn lease(&mut self, op: Op) -> Option<&mut Lease> {
        self.leases.iter_mut().find(|lease| lease.op == op)
    }

    fn remove(&mut self, op: Op) {
        self.leases.retain(|lease| lease.op != op);
        self.grant();
    }

    fn expire(&mut self) {
        let now = self.now;
        self.leases.retain(|lease| lease.expires > now);
        self.grant();
    }

    /// Grants in the order of the queue.
    fn grant(&mut self) {
        let mut free = self.capacity;
        for lease in &mut self.leases {
            if lease.weight > free {
                break;
            }
            free -= lease.weight;
            if lease.token.is_none() {
                self.last_token += 1;
                lease.token = Some(self.last_token);
            }
        }
    }
}
