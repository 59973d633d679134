//! Remembers which resources were found in use, and by how many.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rlock_core::{ResourceName, Share};

use crate::spot::Spot;

/// The most resources that are remembered.
const MOST: usize = 4_096;

/// Spots that a line has at least, so that few claims meet at one.
const FEWEST_SPOTS: u32 = 64;

/// The number of leases that the lines of busy resources had when they were last seen.
///
/// It is a hint. A claim on a resource that is thought to be free is sent for the first spot of an empty line, and sent again
/// if that fails.
#[derive(Debug, Default)]
pub(crate) struct Crowds(Mutex<HashMap<ResourceName, u64>>);

impl Crowds {
    pub(crate) fn of(&self, resource: &ResourceName) -> Option<u64> {
        self.lock().get(resource).copied()
    }

    pub(crate) fn note(&self, resource: &ResourceName, leases: u64) {
        let mut crowds = self.lock();
        if leases <= 1 {
            crowds.remove(resource);
            return;
        }
        if crowds.len() >= MOST && !crowds.contains_key(resource) {
            crowds.clear();
        }
        crowds.insert(resource.clone(), leases);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ResourceName, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two spots to try for a lease of this share in a line of so many leases: each is free with a chance of three in four.
pub(crate) fn two_spots(share: Share, leases: u64) -> [Spot; 2] {
    let most = u32::try_from(leases.saturating_mul(4)).unwrap_or(u32::MAX).max(FEWEST_SPOTS);
    let one = rand::random_range(1..most);
    let other = rand::random_range(1..most - 1);
    [one, if other < one { other } else { other + 1 }].map(|number| Spot::new(share, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_spots_differ_and_are_bounded() {
        for _ in 0..1_000 {
            let [one, other] = two_spots(Share::EXCLUSIVE, 3).map(|spot| spot.number);
            assert!(one != other && (1..64).contains(&one) && (1..64).contains(&other), "{one}, {other}");
        }
        assert!((0..1_000).any(|_| two_spots(Share::EXCLUSIVE, 1_000)[0].number > 64));
    }

    #[test]
    fn free_resources_are_forgotten() {
        let (crowds, name) = (Crowds::default(), ResourceName::new("x").unwrap());
        crowds.note(&name, 3);
        assert_eq!(crowds.of(&name), Some(3));
        crowds.note(&name, 1);
        assert_eq!(crowds.of(&name), None);
    }
}
