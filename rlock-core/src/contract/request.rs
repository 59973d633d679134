//! What core asks a backend for, and what it is answered.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::TryRng as _;
use rand::rngs::SysRng;

use super::ttl::margin;
use super::{LeaseData, Owner, ResourceName, Share, Token, Ttl};
use crate::clock::Moment;

/// The random 128-bit id of a lease, new for every acquisition.
///
/// Whoever knows it can extend and release the lease, so its `Debug` shows only the first digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(u128);

impl LeaseId {
    /// A new id from the random generator of the operating system.
    ///
    /// A generator inside the process would go on alike in both halves of a fork, and in both copies of a virtual machine.
    ///
    /// # Panics
    ///
    /// Panics if the operating system has no random generator.
    pub fn random() -> Self {
        let mut id = [0; 16];
        SysRng.try_fill_bytes(&mut id).expect("the operating system has a random generator");
        Self(u128::from_ne_bytes(id))
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
    /// Data for those who look at the resource. Only given to stores that [keep them](crate::Capabilities::data).
    pub data: Option<LeaseData>,
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

/// A request to end a lease.
#[derive(Debug, Clone)]
pub struct Release {
    /// The lease.
    pub key: LeaseKey,
    /// The time for which its share of the resource stays taken, though nobody holds it. Zero, unless the store can
    /// [rest](crate::Capabilities::rest).
    pub rest: Duration,
}

impl From<LeaseKey> for Release {
    /// A release without a rest.
    fn from(key: LeaseKey) -> Self {
        Self { key, rest: Duration::ZERO }
    }
}

/// A backend's answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acquired {
    /// The lease is held.
    Held(Grant),
    /// The lease is in the queue.
    Queued(Place),
    /// It would have had to wait, and was not to.
    Busy,
}

/// A backend's answer to an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Its fencing token.
    pub token: Token,
    /// The life it had left when the store answered. Core counts it from before it sent the request, so a reading of
    /// the store's clock from any step of the call will do.
    pub ttl: Duration,
}

impl Grant {
    /// The holder's deadline, after a request for the life `asked` that was sent at `sent` or later: the instant *before*
    /// the request, plus the life, less the margin of [`Ttl::margin`].
    pub fn deadline(&self, sent: Moment, asked: Ttl) -> Moment {
        let life = asked.get().min(self.ttl);
        sent.after(life).before(margin(life))
    }
}

/// A queued lease, as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The live waiters in front of it. A store that does not read its whole queue for each waiter may give an upper bound while
    /// several are in front of it.
    pub ahead: u64,
    /// The time until the lease in front of it expires: that of the waiter in front, or for the first waiter that of the
    /// holder which expires first. The waiter asks again then. So a dead waiter costs the others its own TTL at most,
    /// whether or not it was granted meanwhile.
    pub ask_again: Duration,
}

/// A backend's answer to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Released {
    /// The lease was there, held or queued, and is gone now.
    Released,
    /// There was no such lease.
    Absent,
}
