//! Questions about single leases, and what the client reads.

use rlock_core::{LeaseId, ResourceName};

use crate::line::{Entry, Line, Seat, Standing};
use crate::spot::Spot;
use crate::txn::At;

/// A lease whose spot is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) resource: &'a ResourceName,
    pub(crate) id: LeaseId,
    pub(crate) spot: Spot,
    /// The revision that created its key.
    pub(crate) created: i64,
}

impl Question<'_> {
    pub(crate) fn seat(&self) -> Seat {
        Seat { spot: self.spot, created: self.created }
    }
}

/// A lease as it was read at some revision.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    pub(crate) at: At,
    /// The key that was read; `None` for the whole line.
    pub(crate) seat: Option<Seat>,
    /// The lease, if it exists.
    pub(crate) found: Option<(Entry, Standing)>,
    /// Whether there is another lease on the resource, or a rest.
    pub(crate) others: bool,
}

impl Sighting {
    /// Looks a lease up in its line.
    pub(crate) fn of(line: &Line, id: LeaseId) -> Self {
        let found = line.find(id).map(|(entry, standing)| (entry.clone(), standing));
        let others = line.leases.len() > usize::from(found.is_some());
        Self { at: line.at, seat: None, found, others }
    }
}
