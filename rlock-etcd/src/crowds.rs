//! Remembers how many leases each busy resource has.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rlock_core::{ResourceName, Share};

use crate::spot::Spot;

/// The maximum number of resources to remember.
const MOST: usize = 4_096;

/// The minimum number of spots of a line, so that claims rarely collide at one.
const FEWEST_SPOTS: u32 = 64;

/// The number of leases in the lines of busy resources, as last seen.
///
/// It is a hint: a claim on a resource that is not in it asks for the first spot of an empty line, and is sent again if
/// the line is not empty.
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

/// Two random spots to try for a lease of this share in a line of `leases` leases: each is free with a probability of
/// at least three in four.
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
