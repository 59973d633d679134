//! The value of a lease's key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rlock_core::{LeaseData, LeaseId, Owner};

/// The value of a key: `id state ttl weight length owner data`. The length is that of the owner in bytes, after a sign
/// that says whether there are data: `+` or `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: LeaseId,
    pub(crate) state: State,
    /// The TTL that the lease was granted, in seconds.
    pub(crate) ttl: i64,
    pub(crate) weight: u32,
    pub(crate) owner: String,
    pub(crate) data: Option<LeaseData>,
}

/// The state of a lease as its key says, by the wall clock of its owner's host, because etcd has no clock to read. The
/// times are only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It was granted at this time.
    Granted(SystemTime),
    /// It was claimed at this time. It may be held by now.
    Asked(SystemTime),
    /// It was released, and its share stays taken for a while. The id has no meaning.
    Resting,
}

impl Record {
    /// The share of a released lease, which stays taken for `ttl` seconds.
    pub(crate) fn resting(weight: u32, ttl: i64) -> Self {
        Self { id: LeaseId::from_u128(0), state: State::Resting, ttl, weight, owner: String::new(), data: None }
    }

    pub(crate) fn is_resting(&self) -> bool {
        self.state == State::Resting
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let (mark, at) = match self.state {
            State::Granted(at) => ('g', at),
            State::Asked(at) => ('a', at),
            State::Resting => ('r', UNIX_EPOCH),
        };
        let millis = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let sign = if self.data.is_some() { '+' } else { '-' };
        let Self { id, ttl, weight, owner, .. } = self;
        let text = format!("{} {mark}{millis} {ttl} {weight} {sign}{} {owner}", id.to_hex(), owner.len());
        let mut value = text.into_bytes();
        value.extend(self.data.iter().flat_map(LeaseData::as_bytes));
        value
    }

    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let mut parts = value.splitn(6, |&byte| byte == b' ');
        let mut text = || std::str::from_utf8(parts.next()?).ok();
        let id = LeaseId::from_hex(text()?)?;
        let (mark, millis) = text()?.split_at_checked(1)?;
        let at = UNIX_EPOCH.checked_add(Duration::from_millis(millis.parse().ok()?))?;
        let state = match mark {
            "g" => State::Granted(at),
            "a" => State::Asked(at),
            "r" => State::Resting,
            _ => return None,
        };
        let ttl = text()?.parse().ok()?;
        let weight = text()?.parse().ok()?;
        let (sign, length) = text()?.split_at_checked(1)?;
        let (owner, data) = parts.next()?.split_at_checked(length.parse().ok()?)?;
        let data = match sign {
            "+" => Some(LeaseData::new(data).ok()?),
            "-" if data.is_empty() => None,
            _ => return None,
        };
        Some(Self { id, state, ttl, weight, owner: String::from_utf8(owner.to_vec()).ok()?, data })
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner::from_record(&self.owner)
    }

    /// The TTL that the lease was granted.
    pub(crate) fn life(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.ttl).unwrap_or_default())
    }
}

/// The time since `at`, as exact as the hosts' clocks agree.
pub(crate) fn ago(at: SystemTime) -> Duration {
    SystemTime::now().duration_since(at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back() {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_362_000_123);
        let owner = Owner::current().with_label("a b  c").to_record();
        let record =
            Record { id: LeaseId::from_u128(7), state: State::Asked(at), ttl: 30, weight: 3, owner, data: None };
        let data = |data: &[u8]| Some(LeaseData::new(data).unwrap());
        for record in [
            record.clone(),
            Record { state: State::Granted(UNIX_EPOCH), data: data(&[0, 255, 32]), ..record.clone() },
            Record { data: data(&[]), ..record },
            Record::resting(2, 60),
        ] {
            assert_eq!(Record::read(&record.write()), Some(record));
        }
    }

    #[test]
    fn values_of_others_are_not_read() {
        let id = LeaseId::from_u128(7).to_hex();
        for foreign in ["", "1 a1 1 1 -0 ", "x x1 30 1 -0 ", "x a1 30 1 -1 ", "x a1 30 1 -0 o", "x a1 30 1 0 "] {
            let foreign = foreign.replace('x', &id);
            assert_eq!(Record::read(foreign.as_bytes()), None, "{foreign}");
        }
    }
}
