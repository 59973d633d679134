//! The state that a client's clones and guards share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{self, RuntimeFlavor};

use crate::driver::Driver;

/// The state that a client's clones and guards share. The client ends with the last reference to it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) driver: Arc<Driver>,
    has_own_thread: bool,
    drains: Drains,
}

/// The number of drains under way. Clones count the same drains.
#[derive(Debug, Clone, Default)]
pub(super) struct Drains(Arc<AtomicUsize>);

impl Drains {
    /// Counts a drain until this is dropped.
    pub(super) fn count(&self) -> Drain {
        self.0.fetch_add(1, Ordering::AcqRel);
        Drain(self.clone())
    }

    pub(super) fn are_under_way(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

/// A drain under way.
pub(super) struct Drain(Drains);

impl Drop for Drain {
    fn drop(&mut self) {
        let Self(Drains(count)) = self;
        count.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Handle {
    pub(crate) fn new(driver: Arc<Driver>, has_own_thread: bool) -> Self {
        Self { driver, has_own_thread, drains: Drains::default() }
    }

    pub(super) fn drains(&self) -> &Drains {
        &self.drains
    }

    pub(crate) fn has_own_thread(&self) -> bool {
        self.has_own_thread
    }

    /// Whether the client makes progress while this thread is blocked.
    fn runs_without_this_thread(&self) -> bool {
        let runtime = self.driver.runtime();
        let is_inside = runtime::Handle::try_current().is_ok_and(|current| current.id() == runtime.id());
        if self.has_own_thread {
            // Two kinds of threads are inside the runtime: its own thread, and the threads of callbacks, which it
            // awaits when it ends.
            return !is_inside;
        }
        // A `current_thread` runtime makes progress only in `block_on`, which may be on this thread. A task may occupy
        // the only worker, or the worker that has the release in its queue. `Runtime::block_on` occupies no worker.
        runtime.runtime_flavor() == RuntimeFlavor::MultiThread && !(is_inside && tokio::task::try_id().is_some())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.driver.desert();
        if self.runs_without_this_thread() {
            self.driver.wait_for_releases();
        }
    }
}
