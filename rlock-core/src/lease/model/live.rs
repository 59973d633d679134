//! A client of the model and its lease.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::message::Message;
use crate::clock::Moment;
use crate::contract::Token;
use crate::lease::{Effect, Effects, Lease, LossReason, Phase, WatchdogFault};

/// The life with which a watched lock survives one mishap.
const ENOUGH: Duration = Duration::from_secs(2);

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
    /// The second of the lock call.
    pub(super) since: u64,
    /// The calls under way and their verbs.
    pub(super) calls: BTreeSet<(u32, usize)>,
    pub(super) user: User,
    /// Extensions that the holder waits for, and the seconds in which it requested them.
    pub(super) tickets: BTreeMap<u64, u64>,
    /// The second in which the holder has to lose the lock, with a maximum time.
    pub(super) limit: Option<u64>,
    pub(super) is_lost: bool,
    /// The last call that was under way when the client received the event that the lease was broken.
    pub(super) heard: Option<u32>,
    /// The second in which the client gave up the last claim without an answer.
    pub(super) unanswered: Option<u64>,
    /// The user has to know the store's state of the lease by the end of this second.
    pub(super) has_to_know: bool,
    /// A message about this lease had a mishap, or the client stood still, and the holder has not recovered since.
    pub(super) is_disturbed: bool,
    /// The mishaps so far can cost the lock.
    pub(super) is_endangered: bool,
    /// The seconds in a row at whose end the store had granted the lock, and the user still waited.
    pub(super) unaware: u64,
}

/// The state of the user of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum User {
    Waits,
    /// Its client has the lease that it adopts, and the user does not know it yet.
    Adopts,
    Holds,
    /// Waits for the release since this second.
    Unlocks(u64),
    /// No longer needs the lease.
    Left,
}

/// A lease in the store that `client` has handed over and no other client has claimed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct HandedOver {
    pub(super) client: usize,
    pub(super) id: u8,
    pub(super) token: Token,
}

impl Live {
    pub(super) fn new(id: u8, machine: Lease, since: u64) -> Self {
        Self {
            id,
            machine,
            since,
            calls: BTreeSet::new(),
            user: User::Waits,
            tickets: BTreeMap::new(),
            limit: None,
            is_lost: false,
            heard: None,
            unanswered: None,
            has_to_know: false,
            is_disturbed: false,
            is_endangered: false,
            unaware: 0,
        }
    }

    /// A mishap of a message, or of the client. A holder survives the first one if its life is long enough.
    pub(super) fn disturb(&mut self, now: Moment, stands_still: bool) {
        self.is_endangered |= self.is_disturbed || self.has_little_life(now) || stands_still;
        self.is_disturbed = true;
        self.has_to_know = false;
    }

    /// Forgets a mishap that could not cost the lock, once the holder has every answer.
    pub(super) fn recover(&mut self, network: &BTreeSet<Message>) {
        let Phase::Held(held) = self.machine.phase() else { return };
        let is_quiet = self.calls.is_empty() && network.iter().all(|message| message.id != self.id);
        let is_content = self.user == User::Holds && self.tickets.is_empty() && !held.needs_answer();
        self.is_disturbed &= self.is_endangered || !is_quiet || !is_content;
    }

    pub(super) fn has_little_life(&self, now: Moment) -> bool {
        self.machine.deadline().is_some_and(|deadline| deadline.since(now) < ENOUGH)
    }

    /// The promise of its watchdog that a step breaks.
    pub(super) fn broken_by_its_watchdog(
        before: &Lease,
        effects: &Effects,
        is_in_danger: bool,
    ) -> Option<&'static str> {
        let Phase::Held(held) = before.phase() else { return None };
        let most = held.watchdog()?.renewal().max_failures;
        let is_any = |wanted: &dyn Fn(&Effect) -> bool| effects.iter().any(wanted);
        let is_last = |failures: u32| most.is_some_and(|most| failures >= most);
        let has_failed = is_any(&|effect| match effect {
            Effect::Failed(WatchdogFault::Silence { failures, .. }) => is_last(*failures),
            _ => false,
        });
        let gives_up = is_any(&|effect| matches!(effect, Effect::Lose(LossReason::GaveUp)));
        let is_lost = is_any(&|effect| {
            let is_meant = |reason| matches!(reason, LossReason::HeldTooLong | LossReason::Shutdown);
            matches!(effect, Effect::Lose(reason) if !is_meant(*reason))
        });
        if gives_up != has_failed && !(has_failed && is_lost) {
            return Some("a watchdog gives up after its failures");
        }
        (is_lost && !is_in_danger).then_some("a watched lock is held until it is released")
    }
}
