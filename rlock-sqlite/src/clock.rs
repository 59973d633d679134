//! The clock that all processes of this host share.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rlock_core::{Clock, Moment};

/// The time since the host was started, on Linux with /proc: it runs on while the host is suspended, and cannot be set.
/// Elsewhere the wall clock.
#[derive(Debug)]
pub(crate) struct HostClock {
    name: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Boot { clock: Clock, offset: Offset },
    Wall,
}

/// The time by which a time namespace is off the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offset {
    Ahead(Duration),
    Behind(Duration),
}

const NO_OFFSET: Offset = Offset::Ahead(Duration::ZERO);
/// The time namespace of the host, by a fixed number of the kernel.
const HOST_NAMESPACE: &str = "time:[4026531834]";

impl HostClock {
    pub(crate) fn new() -> Self {
        let Some(boot) = boot_id() else { return Self { name: "wall clock".to_owned(), source: Source::Wall } };
        let namespace = |link: &str| fs::read_link(format!("/proc/self/ns/{link}")).ok();
        let (own, of_children) = (namespace("time"), namespace("time_for_children"));
        let (name, offset) = match own {
            Some(own) if own.as_os_str() != HOST_NAMESPACE => {
                let offsets = fs::read_to_string("/proc/self/timens_offsets").ok();
                // The offsets are those of future children.
                match offsets.filter(|_| of_children.as_ref() == Some(&own)).and_then(|offsets| offset_of(&offsets)) {
                    Some(offset) => (boot, offset),
                    None => (format!("{boot} {}", own.display()), NO_OFFSET),
                }
            }
            _ => (boot, NO_OFFSET),
        };
        Self { name, source: Source::Boot { clock: Clock::boot(), offset } }
    }

    /// A boot id, or the name of a clock whose start is unknown: it has a space. Instants of clocks with different names cannot
    /// be compared.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the clock of that name is this one, or both count from a start of the host.
    pub(crate) fn is_like(&self, name: &str) -> bool {
        name == self.name || [name, self.name()].iter().all(|name| !name.contains(' '))
    }

    /// Whether it is the time since the host was started.
    pub(crate) fn is_of_boot(&self) -> bool {
        matches!(self.source, Source::Boot { .. })
    }

    pub(crate) fn now(&self) -> Moment {
        match &self.source {
            Source::Boot { clock, offset: Offset::Ahead(offset) } => clock.now().before(*offset),
            Source::Boot { clock, offset: Offset::Behind(offset) } => clock.now().after(*offset),
            Source::Wall => Moment::default().after(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
        }
    }
}

/// µs of the clock that the moment comes from.
pub(crate) fn micros(moment: Moment) -> i64 {
    i64::try_from(moment.since(Moment::default()).as_micros()).unwrap_or(i64::MAX)
}

/// Reads the line `boottime SECONDS NANOSECONDS` of time_namespaces(7).
fn offset_of(offsets: &str) -> Option<Offset> {
    let line = offsets.lines().find_map(|line| line.strip_prefix("boottime"))?;
    let mut numbers = line.split_whitespace();
    let (seconds, nanos) = (numbers.next()?.parse::<i64>().ok()?, numbers.next()?.parse::<u32>().ok()?);
    let (whole, part) = (Duration::from_secs(seconds.unsigned_abs()), Duration::from_nanos(nanos.into()));
    Some(if seconds < 0 { Offset::Behind(whole.saturating_sub(part)) } else { Offset::Ahead(whole + part) })
}

fn boot_id() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_two_starts_are_alike() {
        let is_like = |one: &str, other| HostClock { name: one.to_owned(), source: Source::Wall }.is_like(other);
        assert!(is_like("id", "other-id") && is_like("wall clock", "wall clock"));
        assert!(!is_like("id", "wall clock") && !is_like("wall clock", "id") && !is_like("id", "id time:[1]"));
    }

    #[test]
    fn offsets_of_time_namespaces_are_read() {
        let ahead = offset_of("monotonic           0         0\nboottime      1000000   5\n");
        assert_eq!(ahead, Some(Offset::Ahead(Duration::new(1_000_000, 5))));
        let behind = offset_of("monotonic 0 0\nboottime -2 500000000\n");
        assert_eq!(behind, Some(Offset::Behind(Duration::from_millis(1_500))));
        assert_eq!(offset_of("monotonic 0 0\n"), None);
    }
}
