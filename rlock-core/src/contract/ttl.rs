//! The life of a lease.

use std::fmt;
use std::time::Duration;

/// The life of a lease on the store's clock after it was last acquired or extended, in whole milliseconds.
///
/// A TTL is between [`MIN`](Self::MIN) and [`MAX`](Self::MAX); a fraction of a millisecond is rounded up. A backend may
/// be coarser ([`Capabilities`](crate::Capabilities)) and then rounds up as well.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ttl(u64);

impl Ttl {
    /// The shortest TTL: 10 ms.
    pub const MIN: Self = Self(10);
    /// The longest TTL: 365 days.
    pub const MAX: Self = Self(365 * 24 * 60 * 60 * 1000);
    /// The default TTL: 30 s.
    pub const DEFAULT: Self = Self(30_000);

    /// Takes `ttl`, rounded up to a whole millisecond.
    ///
    /// # Errors
    ///
    /// [`InvalidTtl`] outside [`MIN`](Self::MIN) to [`MAX`](Self::MAX).
    pub fn new(ttl: Duration) -> Result<Self, InvalidTtl> {
        if ttl < Self::MIN.get() || ttl > Self::MAX.get() {
            return Err(InvalidTtl { ttl });
        }
        let millis = ttl.as_nanos().div_ceil(1_000_000);
        Ok(Self(u64::try_from(millis).expect("bounded by MAX")))
    }

    /// The TTL as a duration.
    pub const fn get(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// The TTL in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The safety margin that a holder subtracts from the TTL: 1 %, at least 2 ms.
    ///
    /// It covers a store's clock that runs up to 1 % faster than the holder's, and the rounding of timers.
    pub fn margin(self) -> Duration {
        margin(self.get())
    }
}

pub(crate) fn margin(ttl: Duration) -> Duration {
    (ttl / 100).max(Duration::from_millis(2))
}

impl Default for Ttl {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Debug for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), f)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), f)
    }
}

/// The error for a TTL out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a TTL of {ttl:?} cannot be used: choose one from {min} to {max}", min = Ttl::MIN, max = Ttl::MAX)]
pub struct InvalidTtl {
    /// The refused TTL.
    pub ttl: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_round_up_and_bounds_hold() {
        assert_eq!(Ttl::new(Duration::from_micros(10_001)).unwrap().as_millis(), 11);
        assert_eq!(Ttl::new(Ttl::MAX.get()).unwrap(), Ttl::MAX);
        for refused in [Duration::ZERO, Duration::from_millis(9), Ttl::MAX.get() + Duration::from_nanos(1)] {
            assert_eq!(Ttl::new(refused), Err(InvalidTtl { ttl: refused }));
        }
    }

    #[test]
    fn margin_is_one_percent_or_two_milliseconds() {
        assert_eq!(Ttl::new(Duration::from_millis(100)).unwrap().margin(), Duration::from_millis(2));
        assert_eq!(Ttl::DEFAULT.margin(), Duration::from_millis(300));
    }
}
