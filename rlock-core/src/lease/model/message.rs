//! The messages between clients and the store.

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
    Answer { call: u32, answer: Response },
    Granted(u64),
    Broken,
}

impl Message {
    pub(super) fn is_request(self) -> bool {
        matches!(self.body, Body::Request { .. })
    }
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
}
