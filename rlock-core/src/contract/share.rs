//! The share of a resource that a lease takes.

use std::num::NonZeroU32;

/// The share of a resource that a lease takes: `weight` of `capacity` permits.
///
/// A mutex is [`EXCLUSIVE`](Self::EXCLUSIVE). A reader of a reader-writer lock has the weight 1 of many, and a writer
/// has all of them. A holder of a semaphore has the weight that it requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share {
    weight: NonZeroU32,
    capacity: NonZeroU32,
}

impl Share {
    /// The only permit of a resource with capacity 1.
    pub const EXCLUSIVE: Self = Self { weight: NonZeroU32::MIN, capacity: NonZeroU32::MIN };

    /// `weight` of `capacity` permits.
    ///
    /// # Errors
    ///
    /// [`InvalidShare`] if either is 0 or the weight exceeds the capacity: such a lease could never be held.
    pub fn new(weight: u32, capacity: u32) -> Result<Self, InvalidShare> {
        let refused = InvalidShare { weight, capacity };
        match (NonZeroU32::new(weight), NonZeroU32::new(capacity)) {
            (Some(weight), Some(capacity)) if weight <= capacity => Ok(Self { weight, capacity }),
            _ => Err(refused),
        }
    }

    /// All permits of a resource of this capacity.
    pub const fn all_of(capacity: NonZeroU32) -> Self {
        Self { weight: capacity, capacity }
    }

    /// One permit of a resource of this capacity.
    pub const fn one_of(capacity: NonZeroU32) -> Self {
        Self { weight: NonZeroU32::MIN, capacity }
    }

    /// The number of permits that the share takes.
    pub const fn weight(self) -> u32 {
        self.weight.get()
    }

    /// The number of permits of the resource.
    pub const fn capacity(self) -> u32 {
        self.capacity.get()
    }

    /// Whether this share takes all permits of the resource.
    pub const fn is_exclusive(self) -> bool {
        self.weight.get() == self.capacity.get()
    }
}

/// A share that could never be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{weight} of {capacity} permits can never be held: both must be at least 1, and the first must not exceed the second"
)]
pub struct InvalidShare {
    /// The number of requested permits.
    pub weight: u32,
    /// The number of permits of the resource.
    pub capacity: u32,
}
