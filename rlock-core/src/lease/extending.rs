//! Extensions of one lease: one is under way, and another follows only if its answer is overdue.

use super::request_state::RequestState;
use super::{Context, Effect, Verb};
use crate::clock::Moment;
use crate::contract::Ttl;

/// The extensions of a lease, queued or held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Extending<R> {
    call: RequestState<Sent<R>>,
    /// Extensions whose answers are overdue. Late answers to them still count.
    overdue: Vec<Overdue>,
    /// Another extension has to follow the one under way, because its answer may be older than the reason for the
    /// extension.
    again: bool,
}

/// An extension that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sent<R> {
    /// A moment before the first byte was sent.
    pub(super) at: Moment,
    pub(super) ttl: Ttl,
    /// The moment from which the answer is overdue.
    pub(super) due: Moment,
    /// The lease was in the queue when this was sent, as far as the client knew.
    pub(super) was_queued: bool,
    /// The wishes of users that wait for the answer.
    pub(super) wishes: R,
}

/// An extension that was sent, and followed by another because its answer did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Overdue {
    call: u32,
    pub(super) at: Moment,
    pub(super) ttl: Ttl,
    pub(super) was_queued: bool,
}

/// The extension that an answer belongs to.
pub(super) enum Answered<R> {
    Current(Sent<R>),
    Overdue(Overdue),
}

/// The maximum number of overdue extensions. Beyond it the oldest is forgotten.
const MOST_OVERDUE: usize = 16;

impl<R> Extending<R> {
    pub(super) const fn new() -> Self {
        Self { call: RequestState::Idle, overdue: Vec::new(), again: false }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.call.is_idle()
    }

    /// Requests an extension that is sent from now on.
    pub(super) fn ask(&mut self, context: &mut Context<'_>) {
        match self.call {
            RequestState::Idle => {
                self.call = RequestState::Wanted;
                context.effects.push(Effect::Send(Verb::Extend));
            }
            RequestState::Wanted => {}
            RequestState::UnderWay(..) => self.again = true,
        }
    }

    /// Whether an extension is requested and not sent yet.
    pub(super) fn is_wanted(&self) -> bool {
        self.call.is_wanted()
    }

    pub(super) fn sent(&mut self, call: u32, sent: Sent<R>) {
        self.call = RequestState::UnderWay(call, sent);
        self.again = false;
    }

    pub(super) fn answered(&mut self, call: u32) -> Option<Answered<R>> {
        if let Some(at) = self.overdue.iter().position(|overdue| overdue.call == call) {
            return Some(Answered::Overdue(self.overdue.remove(at)));
        }
        self.call.answered(call).map(Answered::Current)
    }

    /// Takes back the request for another extension, and returns whether there was one.
    pub(super) fn take_again(&mut self) -> bool {
        std::mem::take(&mut self.again)
    }

    /// The moment from which the extension under way is overdue.
    pub(super) fn timer(&self) -> Option<Moment> {
        self.call.under_way().map(|sent| sent.due)
    }

    /// Stops waiting for the extension under way, if its answer is overdue, and returns that extension.
    pub(super) fn take_overdue(&mut self, now: Moment) -> Option<Sent<R>> {
        if self.timer().is_none_or(|due| due > now) {
            return None;
        }
        let RequestState::UnderWay(call, sent) = std::mem::replace(&mut self.call, RequestState::Idle) else {
            return None;
        };
        if self.overdue.len() == MOST_OVERDUE {
            self.overdue.remove(0);
        }
        self.overdue.push(Overdue { call, at: sent.at, ttl: sent.ttl, was_queued: sent.was_queued });
        Some(sent)
    }

    pub(super) fn wishes(&self) -> Option<&R> {
        self.call.under_way().map(|sent| &sent.wishes)
    }

    pub(super) fn wishes_mut(&mut self) -> Option<&mut R> {
        match &mut self.call {
            RequestState::UnderWay(_, sent) => Some(&mut sent.wishes),
            RequestState::Idle | RequestState::Wanted => None,
        }
    }

    /// The same extensions, without wishes.
    pub(super) fn with_wishes<S: Default>(self) -> Extending<S> {
        let call = match self.call {
            RequestState::Idle => RequestState::Idle,
            RequestState::Wanted => RequestState::Wanted,
            RequestState::UnderWay(number, sent) => {
                let Sent { at, ttl, due, was_queued, .. } = sent;
                RequestState::UnderWay(number, Sent { at, ttl, due, was_queued, wishes: S::default() })
            }
        };
        Extending { call, overdue: self.overdue, again: self.again }
    }
}
