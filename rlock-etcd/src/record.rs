//! What is kept of a lease in etcd.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rlock_core::{Owner, Share};

/// The value of a lease's key: `capacity since ttl weight owner`.
///
/// The capacity comes first and has a fixed width, so that a transaction can compare those of all leases of a resource
/// with one that is asked for: values with the same capacity are the ones between [`from`](Self::from_capacity) and
/// [`to`](Self::to_capacity).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) share: Share,
    pub(crate) since: Since,
    /// The life that the lease was granted, in seconds.
    pub(crate) ttl: i64,
    pub(crate) owner: String,
}

/// From when a lease counts, on the wall clock of its owner's host. etcd has no clock that could be asked. It is only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// It was granted then.
    Granted(SystemTime),
    /// It was asked for then. If it is held now, that is so recent that it is not written down yet.
    Asked(SystemTime),
}

impl Record {
    pub(crate) fn write(&self) -> String {
        let (mark, at) = match self.since {
            Since::Granted(at) => ('g', at),
            Since::Asked(at) => ('a', at),
        };
        let millis = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let Self { share, ttl, owner, .. } = self;
        format!("{} {mark}{millis} {ttl} {} {owner}", width(share.capacity()), share.weight())
    }

    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(value).ok()?.splitn(5, ' ');
        let capacity = u32::from_str_radix(parts.next()?, 16).ok()?;
        let (mark, millis) = parts.next()?.split_at_checked(1)?;
        let at = UNIX_EPOCH.checked_add(Duration::from_millis(millis.parse().ok()?))?;
        let since = match mark {
            "g" => Since::Granted(at),
            "a" => Since::Asked(at),
            _ => return None,
        };
        let ttl = parts.next()?.parse().ok()?;
        let share = Share::new(parts.next()?.parse().ok()?, capacity).ok()?;
        Some(Self { share, since, ttl, owner: parts.next()?.to_owned() })
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner::from_record(&self.owner)
    }

    /// What is less than all values with this capacity, and greater than all with less.
    pub(crate) fn from_capacity(capacity: u32) -> String {
        format!("{} ", width(capacity))
    }

    /// What is greater than all values with this capacity, and less than all with more.
    pub(crate) fn to_capacity(capacity: u32) -> String {
        format!("{}!", width(capacity))
    }
}

fn width(capacity: u32) -> String {
    format!("{capacity:08x}")
}

/// How long ago that was, as far as the hosts' clocks agree.
pub(crate) fn ago(at: SystemTime) -> Duration {
    SystemTime::now().duration_since(at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(capacity: u32) -> Record {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_362_000_123);
        let share = Share::new(1, capacity).unwrap();
        Record { share, since: Since::Asked(at), ttl: 30, owner: Owner::current().with_label("a b  c").to_record() }
    }

    #[test]
    fn records_read_back() {
        let asked = record(3);
        let granted = Record { since: Since::Granted(UNIX_EPOCH), ..record(1 << 29) };
        for record in [asked, granted] {
            assert_eq!(Record::read(record.write().as_bytes()), Some(record));
        }
        for foreign in ["", "1 a1 1 1", "00000001 x1 30 1 o", "00000001 a1 30 2 o", "00000001  30 1 o"] {
            assert_eq!(Record::read(foreign.as_bytes()), None, "{foreign}");
        }
    }

    #[test]
    fn a_capacity_is_told_from_all_others_by_comparing_values() {
        let capacities = [1, 2, 9, 10, 15, 16, 255, 256, 1 << 29, u32::MAX];
        for asked in capacities {
            for actual in capacities {
                let value = record(actual).write();
                let between = value > Record::from_capacity(asked) && value < Record::to_capacity(asked);
                assert_eq!(between, asked == actual, "{asked} and {actual}");
            }
        }
    }
}
