//! The state of the request of one verb.

/// The state of the request of one verb. At most one is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum RequestState<T> {
    /// There is nothing to send.
    Idle,
    /// The request waits for its turn.
    Wanted,
    /// The request of this number was sent.
    UnderWay(u32, T),
}

impl<T> RequestState<T> {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    pub(super) fn is_wanted(&self) -> bool {
        matches!(self, Self::Wanted)
    }

    pub(super) fn under_way(&self) -> Option<&T> {
        match self {
            Self::UnderWay(_, sent) => Some(sent),
            Self::Idle | Self::Wanted => None,
        }
    }

    /// Takes the data of the request, when the answer to `call` arrives. `None` for the answer to another request.
    pub(super) fn answered(&mut self, call: u32) -> Option<T> {
        match self {
            Self::UnderWay(number, _) if *number == call => self.take(),
            _ => None,
        }
    }

    /// Takes the data of the request that was sent and not answered.
    pub(super) fn take(&mut self) -> Option<T> {
        match std::mem::replace(self, Self::Idle) {
            Self::UnderWay(_, sent) => Some(sent),
            other => {
                *self = other;
                None
            }
        }
    }
}
