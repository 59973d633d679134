//! Hears at once of a write to a file, by inotify on Linux. Elsewhere waiters look more often.

use std::path::Path;
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// Reports writes to a file.
#[derive(Debug)]
pub(crate) struct Bell {
    #[cfg(target_os = "linux")]
    events: std::os::fd::OwnedFd,
    #[cfg(not(target_os = "linux"))]
    never: std::convert::Infallible,
}

#[cfg(target_os = "linux")]
impl Bell {
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        inotify::add_watch(&events, path, WatchFlags::MODIFY).ok()?;
        Some(Self { events })
    }

    /// Forgets what it reported so far.
    pub(crate) fn clear(&self) {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.events, &mut buffer).is_ok_and(|length| length > 0) {}
    }

    /// Sleeps until it is rung, or for `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let limit = Timespec::try_from(limit).ok();
        let _interrupted = poll(&mut [PollFd::new(&self.events, PollFlags::IN)], limit.as_ref());
        self.clear();
    }

    pub(crate) fn fd(&self) -> &std::os::fd::OwnedFd {
        &self.events
    }
}

#[cfg(not(target_os = "linux"))]
impl Bell {
    pub(crate) fn at(_path: &Path) -> Option<Self> {
        None
    }

    pub(crate) fn clear(&self) {
        match self.never {}
    }

    pub(crate) fn wait(&self, _limit: Duration) {
        match self.never {}
    }
}
