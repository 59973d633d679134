//! What this client has seen of resources.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, Ordering};

use rlock_core::ResourceName;

/// A guess for each resource, which others with the same hash change now and then: a wrong one costs a round trip that
/// was not needed, or a longer statement where a short one would have done.
#[derive(Debug)]
pub(crate) struct Guesses {
    are_likely: Box<[AtomicBool]>,
    hasher: RandomState,
}

impl Guesses {
    const COUNT: usize = 4096;

    pub(crate) fn new() -> Self {
        let are_likely = (0..Self::COUNT).map(|_| AtomicBool::new(false)).collect();
        Self { are_likely, hasher: RandomState::new() }
    }

    pub(crate) fn is_likely(&self, resource: &ResourceName) -> bool {
        self.guess(resource).load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, resource: &ResourceName, is_so: bool) {
        self.guess(resource).store(is_so, Ordering::Relaxed);
    }

    fn guess(&self, resource: &ResourceName) -> &AtomicBool {
        &self.are_likely[self.hasher.hash_one(resource) as usize % Self::COUNT]
    }
}
