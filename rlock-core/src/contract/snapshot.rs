//! What can be seen of a resource from outside.

use std::time::Duration;

use super::{LeaseData, Owner, ResourceName, Token};

/// A resource as the store has it at one instant. It never contains the id of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The resource.
    pub resource: ResourceName,
    /// The capacity that its live leases agree on; `None` if there are none.
    pub capacity: Option<u32>,
    /// The held leases, in the order in which they were granted.
    pub holders: Vec<Holder>,
    /// The queued leases, first in line first.
    pub queue: Vec<Waiter>,
    /// The time up to the end of the longest rest, in which a share stays taken though nobody holds it.
    pub rest: Option<Duration>,
}

impl Snapshot {
    /// Whether nobody holds it, nobody waits for it, and it does not rest.
    pub fn is_free(&self) -> bool {
        self.holders.is_empty() && self.queue.is_empty() && self.rest.is_none()
    }
}

/// A held lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who has it.
    pub owner: Owner,
    /// Its fencing token.
    pub token: Token,
    /// How many permits it takes.
    pub weight: u32,
    /// How long ago it was granted, on the store's clock.
    pub held_for: Duration,
    /// How long it lives on unless it is extended.
    pub remaining: Duration,
    /// The data that its holder gave it.
    pub data: Option<LeaseData>,
}

/// A queued lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    /// Who waits.
    pub owner: Owner,
    /// How many permits it waits for.
    pub weight: u32,
    /// How long ago it joined the queue, on the store's clock.
    pub waiting_for: Duration,
    /// How long it stays in the queue unless it is extended.
    pub remaining: Duration,
    /// The data that the waiter gave it.
    pub data: Option<LeaseData>,
}

/// Which resources to list.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only names that begin with this; empty for all.
    pub prefix: String,
    /// Where the page before ended; `None` for the first page.
    pub after: Option<Cursor>,
    /// About how many entries a page should have, at least 1. A store may return a few more or fewer.
    pub limit: usize,
}

/// Where a page ended. Its content is the backend's own; it is given back with the prefix that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// A part of the resources that have live leases.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The resources of this page. One that is there throughout appears on at least one page; a page may be empty,
    /// and others follow.
    pub entries: Vec<Entry>,
    /// Where to go on; `None` on the last page.
    pub next: Option<Cursor>,
}

/// A resource with live leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The resource.
    pub resource: ResourceName,
    /// How many leases are held.
    pub holders: u64,
    /// How many wait.
    pub waiters: u64,
}
