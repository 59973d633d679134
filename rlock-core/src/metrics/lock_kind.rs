/// The lock types, as metrics distinguish them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    Mutex,
    Read,
    Semaphore,
    Write,
}

impl LockKind {
    /// All kinds, in the order of their numbers.
    pub(crate) const ALL: [Self; 4] = [Self::Mutex, Self::Read, Self::Semaphore, Self::Write];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::Read => "read",
            Self::Semaphore => "semaphore",
            Self::Write => "write",
        }
    }
}
