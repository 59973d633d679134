//! Requests of core to a backend, and the answers.

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
/// Anyone who knows the id can extend and release the lease, so its `Debug` shows only the first digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(u128);

impl LeaseId {
    /// A new id from the random generator of the operating system.
    ///
    /// A generator inside the process would continue with the same numbers in both halves of a fork, and in both copies
    /// of a virtual machine.
    ///
    /// # Panics
    ///
    /// Panics if the operating system has no random generator.
    pub fn random() -> Self {
        let mut id = [0; 16];
        SysRng.try_fill_bytes(&mut id).expect("the operating system has a random generator");
        Self(u128::from_ne_bytes(id))
    }

    /// Restores an id from the number that a store kept.
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

    /// Parses the text that [`to_hex`](Self::to_hex) wrote; `None` for any other text.
    pub fn from_hex(hex: &str) -> Option<Self> {
        (hex.len() == 32).then(|| u128::from_str_radix(hex, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({:08x}…)", self.0 >> 96)
    }
}

/// The identity of a lease. The name of the resource alone is never enough.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    /// The resource of the lease.
    pub resource: ResourceName,
    /// The lease itself.
    pub id: LeaseId,
}

/// A request for a lease.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The resource, and the id of the new lease.
    pub key: LeaseKey,
    /// The share of the resource.
    pub share: Share,
    /// The life of the lease, queued or held, unless it is extended.
    pub ttl: Ttl,
    /// The action if the claim cannot be granted at once.
    pub if_busy: IfBusy,
    /// The host and process that claim, for people who inspect the store.
    pub owner: Arc<Owner>,
    /// Data for clients that inspect the resource. Core passes data only to stores that
    /// [keep them](crate::Capabilities::data).
    pub data: Option<LeaseData>,
}

/// The action if a claim cannot be granted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfBusy {
    /// The store refuses the claim, which leaves nothing behind.
    Refuse,
    /// The claim joins the end of the queue. Core uses this only for stores that
    /// [have a queue](crate::Capabilities::queue).
    Queue,
}

/// A request to extend a lease, queued or held.
#[derive(Debug, Clone)]
pub struct Extension {
    /// The lease.
    pub key: LeaseKey,
    /// The life that the lease has left afterwards, at least.
    pub ttl: Ttl,
}

/// A request to end a lease.
#[derive(Debug, Clone)]
pub struct Release {
    /// The lease.
    pub key: LeaseKey,
    /// The time for which the share of the resource stays taken without a holder. Zero, unless the store supports a
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
    /// The claim would have had to wait, and was refused.
    Busy,
}

/// A backend's answer to an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extended {
    /// The lease is held, and its life is extended.
    Held(Grant),
    /// The lease is in the queue, and its life is extended.
    Queued(Place),
    /// The store has no such lease: it was released, it expired, it was broken, or the store lost it.
    Gone {
        /// Whether another lease holds the resource now, or a part of it.
        taken: bool,
    },
}

/// A held lease, as the store reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Its fencing token.
    pub token: Token,
    /// The life that the lease had left when the store answered. Core counts it from a moment before it sent the
    /// request, so the store may read its clock at any step of the call.
    pub ttl: Duration,
}

impl Grant {
    /// The deadline of the holder after a request for the life `asked`. The deadline is `sent`, a moment *before* the
    /// request was sent, plus the life, less the margin of [`Ttl::margin`].
    pub fn deadline(&self, sent: Moment, asked: Ttl) -> Moment {
        let life = asked.get().min(self.ttl);
        sent.after(life).before(margin(life))
    }
}

/// A queued lease, as the store reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The number of live waiters in front of the lease. A store that does not read its whole queue for each waiter may
    /// give an upper bound if there are several.
    pub ahead: u64,
    /// The time until the lease in front expires: the lease of the waiter in front, or for the first waiter the
    /// holder's lease that expires first. The waiter asks again then. So a dead waiter delays the others by its own TTL
    /// at most, whether or not it was granted meanwhile.
    pub ask_again: Duration,
}

/// A backend's answer to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Released {
    /// The lease was there, held or queued, and is gone now.
    Released,
    /// The store had no such lease.
    Absent,
}
