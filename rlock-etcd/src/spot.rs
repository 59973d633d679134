//! The spots of a line, which its leases reuse.

use std::fmt;
use std::num::NonZeroU32;

use rlock_core::Share;

/// The last part of a lease's key: `capacity/class number`, with the capacity in eight hexadecimal digits, as
/// `00000001/x0`.
///
/// Spots are reused, because a range read walks over each deleted key until etcd compacts its history. The revisions
/// that created the keys order the line; the numbers do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Spot {
    pub(crate) capacity: NonZeroU32,
    pub(crate) class: Class,
    pub(crate) number: u32,
}

/// A coarse weight of a lease, in its key, so that a line can be judged without reading every lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// The whole capacity.
    Exclusive,
    /// One permit of several.
    Light,
    /// More than one permit, and not all of them.
    Many,
}

impl Class {
    pub(crate) fn of(share: Share) -> Self {
        match share.weight() {
            _ if share.is_exclusive() => Self::Exclusive,
            1 => Self::Light,
            _ => Self::Many,
        }
    }

    pub(crate) fn letter(self) -> char {
        match self {
            Self::Exclusive => 'x',
            Self::Light => 'l',
            Self::Many => 'm',
        }
    }
}

impl Spot {
    /// The spot with this number for leases of this share.
    pub(crate) fn new(share: Share, number: u32) -> Self {
        let capacity = NonZeroU32::new(share.capacity()).expect("the capacity of a share is not zero");
        Self { capacity, class: Class::of(share), number }
    }

    pub(crate) fn read(path: &str) -> Option<Self> {
        let (capacity, place) = path.split_once('/')?;
        let capacity = NonZeroU32::new(u32::from_str_radix(capacity, 16).ok()?)?;
        let (letter, number) = place.split_at_checked(1)?;
        let class = match letter {
            "x" => Class::Exclusive,
            "l" => Class::Light,
            "m" => Class::Many,
            _ => return None,
        };
        let spot = Self { capacity, class, number: number.parse().ok()? };
        (spot.to_string() == path).then_some(spot)
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}/{}{}", self.capacity, self.class.letter(), self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spots_read_back() {
        for (weight, capacity, path) in [(1, 1, "00000001/x7"), (1, 3, "00000003/l7"), (2, 3, "00000003/m7")] {
            let spot = Spot::new(Share::new(weight, capacity).unwrap(), 7);
            assert_eq!((spot.to_string().as_str(), Spot::read(path)), (path, Some(spot)));
        }
        for foreign in ["", "x7", "1/x7", "00000001/y7", "00000001/x07", "00000001/x", "00000000/x1", "0000000A/x1"] {
            assert_eq!(Spot::read(foreign), None, "{foreign}");
        }
    }
}
