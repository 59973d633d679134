//! Random operations.

use proptest::prelude::*;
use rlock_core::{IfBusy, ResourceName, Share};

use crate::peer;

pub(super) const RESOURCES: [&str; 2] = ["a:{1}", "b*é"];
pub(super) const IDS: u128 = 6;

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Acquire { client: usize, claims: Vec<ClaimOf> },
    Extend { client: usize, leases: Vec<(Lease, u64)> },
    Release { client: usize, leases: Vec<Lease> },
    Break { client: usize, resource: usize },
    Inspect { resource: usize },
    List,
    Pass { millis: u64 },
}

/// Index of a resource, and a lease id.
pub(super) type Lease = (usize, u128);

#[derive(Debug, Clone)]
pub(super) struct ClaimOf {
    pub(super) lease: Lease,
    pub(super) share: Share,
    pub(super) millis: u64,
    pub(super) if_busy: IfBusy,
}

/// The name of the resource with this index.
pub(super) fn name_of(resource: usize) -> ResourceName {
    peer::resource(RESOURCES[resource])
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    let lease = (0..RESOURCES.len(), 0..IDS);
    let client = 0..2usize;
    let millis = prop_oneof![2 => 40..200u64, 1 => Just(10_000), 1 => Just(100_000)];
    // Mostly one capacity, so that leases compete instead of being refused for a mismatch.
    let share = prop_oneof![
        3 => Just((1, 3)),
        2 => Just((2, 3)),
        3 => Just((3, 3)),
        1 => Just((1, 1)),
    ];
    let share = share.prop_map(|(weight, capacity)| Share::new(weight, capacity).expect("a valid share"));
    let if_busy = prop_oneof![1 => Just(IfBusy::Refuse), 4 => Just(IfBusy::Queue)];
    let claim = (lease.clone(), share, millis.clone(), if_busy).prop_map(|(lease, share, millis, if_busy)| ClaimOf {
        lease,
        share,
        millis,
        if_busy,
    });
    let leases = prop::collection::vec((lease.clone(), millis), 1..4);
    prop_oneof![
        8 => (client.clone(), prop::collection::vec(claim, 1..4))
            .prop_map(|(client, claims)| Operation::Acquire { client, claims }),
        4 => (client.clone(), leases).prop_map(|(client, leases)| Operation::Extend { client, leases }),
        4 => (client.clone(), prop::collection::vec(lease, 1..3))
            .prop_map(|(client, leases)| Operation::Release { client, leases }),
        1 => (client, 0..RESOURCES.len()).prop_map(|(client, resource)| Operation::Break { client, resource }),
        2 => (0..RESOURCES.len()).prop_map(|resource| Operation::Inspect { resource }),
        1 => Just(Operation::List),
        3 => (0..120u64).prop_map(|millis| Operation::Pass { millis }),
    ]
}
