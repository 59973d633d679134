//! Checks that the weights of the holds of a resource never exceed its capacity.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::by_resource::{ByResource, Hold, Resource};
use super::protected::Protected;
use crate::history::breach::Breach;

pub(super) fn check<'a>(sorted: &ByResource<'a>) -> Protected<'a> {
    let last = sorted.timeline.last();
    let mut found = Protected::new(&sorted.timeline.fates);
    for resource in sorted.resources.values() {
        check_resource(resource, last, &mut found);
    }
    found
}

/// Walks through the holds in order of their start and keeps those that have not ended. `ends` finds the next hold to
/// drop; `capacities` finds the smallest capacity in use, which is the limit.
fn check_resource(resource: &Resource<'_>, last: Duration, found: &mut Protected<'_>) {
    let mut held: BTreeMap<usize, Hold<'_>> = BTreeMap::new();
    let mut ends: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
    let mut capacities: BTreeMap<u32, usize> = BTreeMap::new();
    let mut weight = 0;
    for (number, hold) in resource.holds.iter().enumerate() {
        while let Some(&Reverse((end, ended))) = ends.peek()
            && end <= hold.span.from
        {
            ends.pop();
            let ended = held.remove(&ended).expect("what ends was held").asking.share;
            weight -= u64::from(ended.weight());
            let users = capacities.get_mut(&ended.capacity()).expect("it was counted when it began");
            *users -= 1;
            if *users == 0 {
                capacities.remove(&ended.capacity());
            }
        }
        let share = hold.asking.share;
        held.insert(number, *hold);
        ends.push(Reverse((hold.span.to, number)));
        *capacities.entry(share.capacity()).or_default() += 1;
        weight += u64::from(share.weight());
        let capacity = *capacities.first_key_value().expect("one was just counted").0;
        if weight > u64::from(capacity) {
            found.add(hold.span.from, || overlap(resource, &held, *hold, capacity, last));
        }
    }
}

/// The new hold, with the fewest other holds that exceed the capacity together with it.
fn overlap(
    resource: &Resource<'_>,
    held: &BTreeMap<usize, Hold<'_>>,
    new: Hold<'_>,
    capacity: u32,
    last: Duration,
) -> Breach {
    let mut others: Vec<&Hold<'_>> = held.values().filter(|hold| hold.asking.op != new.asking.op).collect();
    others.sort_by_key(|hold| Reverse(hold.asking.share.weight()));
    let mut weight = u64::from(new.asking.share.weight());
    let mut ops = vec![new.asking.op];
    let mut to = new.span.to;
    for other in others {
        if weight > u64::from(capacity) {
            break;
        }
        weight += u64::from(other.asking.share.weight());
        to = to.min(other.span.to);
        ops.push(other.asking.op);
    }
    ops.reverse();
    let overlap = to.min(last.max(new.span.from)) - new.span.from;
    Breach::Overlap { resource: resource.name.clone(), ops, weight, capacity, overlap }
}
