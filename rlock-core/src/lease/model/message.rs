//! The messages between clients and the store.

use std::time::Duration;

use crate::contract::{Acquired, Extended, Grant, Place, Released, Token};
use crate::lease::{Fault, Hint, Input, Verb};

pub(super) const VERBS: [Verb; 3] = [Verb::Claim, Verb::Extend, Verb::Release];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Message {
    pub(super) client: usize,
    pub(super) id: u8,
    pub(super) is_delayed: bool,
    pub(super) body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Body {
    Request { call: u32, request: Request },
    Answer { call: u32, verb: usize, answer: Response },
    Granted(u64),
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Request {
    Claim { queue: bool },
    Extend { seconds: u64 },
    Release { rest: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Response {
    Held { token: u64, left: u64 },
    Queued { ask_again: u64 },
    Busy,
    Gone { taken: bool },
    Released,
    Absent,
    NotApplied,
    Rejected,
}

impl Message {
    pub(super) fn is_request(self) -> bool {
        matches!(self.body, Body::Request { .. })
    }

    pub(super) fn is_claim(self) -> bool {
        matches!(self.body, Body::Request { request: Request::Claim { .. }, .. })
    }

    /// The answer to this request, on its way.
    pub(super) fn answered(self, answer: Response) -> Self {
        let Body::Request { call, request } = self.body else { unreachable!("it is a request") };
        Self { body: Body::Answer { call, verb: request.verb() as usize, answer }, is_delayed: false, ..self }
    }
}

impl Request {
    pub(super) fn verb(self) -> Verb {
        match self {
            Self::Claim { .. } => Verb::Claim,
            Self::Extend { .. } => Verb::Extend,
            Self::Release { .. } => Verb::Release,
        }
    }
}

impl Body {
    /// What a client makes of this message.
    pub(super) fn into_input(self) -> Input {
        match self {
            Self::Granted(token) => Input::Hint(Hint::Granted(Token::new(token))),
            Self::Broken => Input::Hint(Hint::Broken),
            Self::Answer { call, verb, answer } => answer.into_input(VERBS[verb], call),
            Self::Request { .. } => unreachable!("requests go to the store"),
        }
    }
}

impl Response {
    fn into_input(self, verb: Verb, call: u32) -> Input {
        let grant = |token, left| Grant { token: Token::new(token), ttl: Duration::from_secs(left) };
        let place = |ask_again| Place { ahead: 0, ask_again: Duration::from_secs(ask_again) };
        let fault = if self == Self::Rejected { Fault::Rejected } else { Fault::NotApplied };
        match verb {
            Verb::Claim => Input::Claimed(
                call,
                match self {
                    Self::Held { token, left } => Ok(Acquired::Held(grant(token, left))),
                    Self::Queued { ask_again } => Ok(Acquired::Queued(place(ask_again))),
                    Self::Busy => Ok(Acquired::Busy),
                    _ => Err(fault),
                },
            ),
            Verb::Extend => Input::Extended(
                call,
                match self {
                    Self::Held { token, left } => Ok(Extended::Held(grant(token, left))),
                    Self::Queued { ask_again } => Ok(Extended::Queued(place(ask_again))),
                    Self::Gone { taken } => Ok(Extended::Gone { taken }),
                    _ => Err(fault),
                },
            ),
            Verb::Release => Input::Released(
                call,
                match self {
                    Self::Released => Ok(Released::Released),
                    Self::Absent => Ok(Released::Absent),
                    _ => Err(fault),
                },
            ),
        }
    }
}

/// The driver's word that a call has no answer.
pub(super) fn unknown(verb: Verb, call: u32) -> Input {
    match verb {
        Verb::Claim => Input::Claimed(call, Err(Fault::Unknown)),
        Verb::Extend => Input::Extended(call, Err(Fault::Unknown)),
        Verb::Release => Input::Released(call, Err(Fault::Unknown)),
    }
}
