//! Extensions of one lease: one under way, and another only when the answer to it is overdue.

use super::call::Call;
use super::{Context, Effect, Verb};
use crate::clock::Moment;
use crate::contract::Ttl;

/// The extensions of a lease, queued or held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Extending<R> {
    call: Call<Sent<R>>,
    /// Extensions whose answers are overdue, and still welcome.
    overdue: Vec<Overdue>,
    /// Another extension follows the one under way, because its answer may be older than the reason to ask.
    again: bool,
}

/// An extension that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sent<R> {
    /// A moment before the first byte was sent.
    pub(super) at: Moment,
    pub(super) ttl: Ttl,
    /// When the answer is overdue.
    pub(super) due: Moment,
    /// The users that wait for the answer.
    pub(super) requests: R,
}

/// An extension that was sent, and followed by another because its answer did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Overdue {
    call: u32,
    pub(super) at: Moment,
    pub(super) ttl: Ttl,
}

/// The extension that an answer belongs to.
pub(super) enum Answered<R> {
    Current(Sent<R>),
    Overdue(Overdue),
}

/// Overdue extensions beyond this number are forgotten, the oldest first.
const MOST_OVERDUE: usize = 16;

impl<R> Extending<R> {
    pub(super) const fn new() -> Self {
        Self { call: Call::Idle, overdue: Vec::new(), again: false }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.call.is_idle()
    }

    /// Asks for an extension that is sent from now on.
    pub(super) fn ask(&mut self, context: &mut Context<'_>) {
        match self.call {
            Call::Idle => {
                self.call = Call::Wanted;
                context.effects.push(Effect::Send(Verb::Extend));
            }
            Call::Wanted => {}
            Call::UnderWay(..) => self.again = true,
        }
    }

    /// Whether an extension that was asked for has not been sent.
    pub(super) fn is_wanted(&self) -> bool {
        self.call.is_wanted()
    }

    pub(super) fn sent(&mut self, call: u32, sent: Sent<R>) {
        self.call = Call::UnderWay(call, sent);
        self.again = false;
    }

    pub(super) fn answered(&mut self, call: u32) -> Option<Answered<R>> {
        if let Some(at) = self.overdue.iter().position(|overdue| overdue.call == call) {
            return Some(Answered::Overdue(self.overdue.remove(at)));
        }
        self.call.answered(call).map(Answered::Current)
    }

    /// Takes back the wish for another extension.
    pub(super) fn take_again(&mut self) -> bool {
        std::mem::take(&mut self.again)
    }

    /// The moment from which the extension under way is overdue.
    pub(super) fn timer(&self) -> Option<Moment> {
        self.call.under_way().map(|sent| sent.due)
    }

    /// Gives up waiting for the extension under way, if its answer is overdue.
    pub(super) fn overdue(&mut self, now: Moment) -> Option<Sent<R>> {
        if self.timer().is_none_or(|due| due > now) {
            return None;
        }
        let Call::UnderWay(call, sent) = std::mem::replace(&mut self.call, Call::Idle) else { return None };
        if self.overdue.len() == MOST_OVERDUE {
            self.overdue.remove(0);
        }
        self.overdue.push(Overdue { call, at: sent.at, ttl: sent.ttl });
        Some(sent)
    }

    /// The longest life that an extension without an answer asks for.
    pub(super) fn longest(&self) -> Option<Ttl> {
        let under_way = self.call.under_way().map(|sent| sent.ttl);
        self.overdue.iter().map(|overdue| overdue.ttl).chain(under_way).max()
    }

    pub(super) fn requests(&self) -> Option<&R> {
        self.call.under_way().map(|sent| &sent.requests)
    }

    pub(super) fn requests_mut(&mut self) -> Option<&mut R> {
        match &mut self.call {
            Call::UnderWay(_, sent) => Some(&mut sent.requests),
            Call::Idle | Call::Wanted => None,
        }
    }

    /// The users that wait for the answer of the extension under way.
    pub(super) fn into_requests(mut self) -> Option<R> {
        self.call.take().map(|sent| sent.requests)
    }

    /// The same extensions, with other users.
    pub(super) fn with_requests<S: Default>(self) -> Extending<S> {
        let call = match self.call {
            Call::Idle => Call::Idle,
            Call::Wanted => Call::Wanted,
            Call::UnderWay(number, sent) => {
                let Sent { at, ttl, due, .. } = sent;
                Call::UnderWay(number, Sent { at, ttl, due, requests: S::default() })
            }
        };
        Extending { call, overdue: self.overdue, again: self.again }
    }
}
