//! The state of resources, for clients that inspect a store.

use std::time::Duration;

use super::{LeaseData, Owner, ResourceName, Token};

/// A resource in the store at one instant. It never contains the id of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Snapshot {
    /// The resource.
    pub resource: ResourceName,
    /// The capacity that its live leases were claimed with; `None` if there are none.
    pub capacity: Option<u32>,
    /// The held leases, in the order in which they were granted.
    pub holders: Vec<Holder>,
    /// The queued leases, in the order of the queue.
    pub queue: Vec<Waiter>,
    /// The time until the longest rest ends. During a rest a share stays taken without a holder.
    pub rest: Option<Duration>,
}

impl Snapshot {
    /// Whether the resource has no holder, no waiter and no rest.
    pub fn is_free(&self) -> bool {
        self.holders.is_empty() && self.queue.is_empty() && self.rest.is_none()
    }
}

/// A held lease.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Holder {
    /// The host and process that hold the lease.
    pub owner: Owner,
    /// Its fencing token.
    pub token: Token,
    /// The number of permits that the lease takes.
    pub weight: u32,
    /// The time since the grant, on the store's clock.
    pub held_for: Duration,
    /// The remaining life of the lease, unless it is extended.
    pub remaining: Duration,
    /// The data of the holder.
    pub data: Option<LeaseData>,
}

/// A queued lease.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Waiter {
    /// The host and process that wait.
    pub owner: Owner,
    /// The number of permits that the lease waits for.
    pub weight: u32,
    /// The time since the lease joined the queue, on the store's clock.
    pub waiting_for: Duration,
    /// The time for which the lease stays in the queue, unless it is extended.
    pub remaining: Duration,
    /// The data of the waiter.
    pub data: Option<LeaseData>,
}

/// A filter for the resources to list.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct ListFilter {
    /// The prefix of the names; empty for all names.
    pub prefix: String,
    /// The end of the previous page; `None` for the first page.
    pub after: Option<Cursor>,
    /// The approximate number of entries on a page, at least 1. A store may return a few more or fewer.
    pub limit: usize,
}

/// The end of a page. Its content is internal to the backend. Pass it back with the prefix that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize), serde(transparent))]
pub struct Cursor(pub String);

/// A part of the resources that have live leases.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Page {
    /// The resources of this page. A resource that exists during the whole listing appears on at least one page. A page
    /// may be empty although more pages follow.
    pub entries: Vec<Entry>,
    /// The start of the next page; `None` on the last page.
    pub next: Option<Cursor>,
}

/// A resource with live leases.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Entry {
    /// The resource.
    pub resource: ResourceName,
    /// The number of held leases.
    pub holders: u64,
    /// The number of queued leases.
    pub waiters: u64,
}
