//! A request of one verb.

/// The request of one verb, of which one is under way at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Call<T> {
    /// Nothing is to be sent.
    Idle,
    /// The request waits for its turn.
    Wanted,
    /// The request of this number was sent.
    UnderWay(u32, T),
}

impl<T> Call<T> {
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

    /// Takes out what was sent, when the answer to `call` comes in. `None` for an answer to another request.
    pub(super) fn answered(&mut self, call: u32) -> Option<T> {
        match self {
            Self::UnderWay(number, _) if *number == call => self.take(),
            _ => None,
        }
    }

    /// Takes out what was sent and not answered.
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
