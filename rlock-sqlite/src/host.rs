//! The clock that all processes of this host share.

use std::time::{SystemTime, UNIX_EPOCH};

use rlock_core::{Clock, Moment};

/// The time since the host was started, where it can be told which start that was: it goes on while the host is
/// suspended, and nobody can set it. Elsewhere the wall clock.
#[derive(Debug)]
pub(crate) struct HostClock {
    /// What is another one after each start.
    boot: Option<String>,
    clock: Clock,
}

impl HostClock {
    pub(crate) fn new() -> Self {
        Self { boot: boot_id(), clock: Clock::boot() }
    }

    /// Instants of clocks with different names have nothing to do with each other.
    pub(crate) fn name(&self) -> &str {
        self.boot.as_deref().unwrap_or("wall clock")
    }

    /// Whether it is the time since the host was started.
    pub(crate) fn is_of_boot(&self) -> bool {
        self.boot.is_some()
    }

    pub(crate) fn now(&self) -> Moment {
        if self.is_of_boot() {
            self.clock.now()
        } else {
            Moment::default().after(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
        }
    }
}

fn boot_id() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}
