//! What core asks a backend for, and what it is answered.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Owner, ResourceName, Share, Token, Ttl};

/// The random 128-bit id of a lease, new for every acquisition.
///
/// Whoever knows it can extend and release the lease, so its `Debug` shows only the first digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(u128);

impl LeaseId {
    /// A new id from the thread's cryptographic random generator.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// An id as a store kept it.
    pub const fn from_u128(id: u128) -> Self {
        Self(id)
    }

    /// The id as a number, for a store to keep.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The id as 32 lower-case hexadecimal digits, for a store to keep.
    pub fn to_hex(self) -> String {
        format!("{:032x}", self.0)
    }

    /// Reads what [`to_hex`](Self::to_hex) wrote; `None` for anything else.
    pub fn from_hex(hex: &str) -> Option<Self> {
        (hex.len() == 32).then(|| u128::from_str_radix(hex, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({:08x}…)", self.0 >> 96)
    }
}

/// Which lease a request is about: never a name alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    /// The resource that the lease is a claim on.
    pub resource: ResourceName,
    /// The lease itself.
    pub id: LeaseId,
}

/// A request for a lease.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The resource, and the id that the lease is to have.
    pub key: LeaseKey,
    /// How much of the resource it takes.
    pub share: Share,
    /// How long it lives, queued or held, unless it is extended.
    pub ttl: Ttl,
    /// What to do when it cannot be granted at once.
    pub if_busy: IfBusy,
    /// Who asks, for people who look at the store.
    pub owner: Arc<Owner>,
}

/// What becomes of a claim that cannot be granted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfBusy {
    /// It is refused, and leaves nothing behind.
    Refuse,
    /// It joins the end of the queue. Only asked of stores that [have one](crate::Capabilities::queue).
    Queue,
}

/// A request to keep a lease alive, queued or held.
#[derive(Debug, Clone)]
pub struct Extension {
    /// The lease.
    pub key: LeaseKey,
    /// The life it is to have left, at least.
    pub ttl: Ttl,
}

/// What a backend says of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquired {
    /// The lease is held.
    Held(Grant),
    /// The lease is in the queue.
    Queued(Place),
    /// It would have had to wait, and was not to.
    Busy,
}

/// What a backend says of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    /// The lease is held, and lives on.
    Held(Grant),
    /// The lease is in the queue, and lives on.
    Queued(Place),
    /// The store has no such lease: it was released, it expired, it was broken, or the store lost it.
    Gone {
        /// Whether somebody else holds the resource now, or a part of it.
        taken: bool,
    },
}

/// A held lease, as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Its fencing token.
    pub token: Token,
    /// The life it had left when the store answered. Core counts it from before it sent the request, so a reading of
    /// the store's clock from any step of the call will do.
    pub ttl: Duration,
}

/// A queued lease, as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// How many live waiters are in front of it.
    pub ahead: u64,
    /// When it is worth asking again, if nobody extends or releases anything before: the instant at which what
    /// blocks it expires.
    pub ask_again: Duration,
}

/// What a backend says of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// The lease was there, held or queued, and is gone now.
    Released,
    /// There was no such lease.
    Absent,
}
