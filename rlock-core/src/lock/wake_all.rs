//! One waker for several futures.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use crate::driver::quietly;

/// Wakes all futures that wait for the release of one lock. The driver keeps one waker for each lease.
#[derive(Debug, Default)]
pub(super) struct WakeAll(Mutex<Vec<Waker>>);

impl WakeAll {
    /// Adds the waker of a future, which is woken once.
    pub(super) fn add(&self, waker: &Waker) {
        let mut wakers = self.lock();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for WakeAll {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = std::mem::take(&mut *self.lock());
        // Their executor is the user's code.
        wakers.into_iter().for_each(|waker| _ = quietly(|| waker.wake()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as a broken executor does");
        }
    }

    #[derive(Default)]
    struct Notes(AtomicBool);

    impl Wake for Notes {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn panicking_waker_strands_no_other() {
        let (all, notes) = (Arc::new(WakeAll::default()), Arc::new(Notes::default()));
        all.add(&Waker::from(Arc::new(Panics)));
        all.add(&Waker::from(notes.clone()));
        all.wake_by_ref();
        assert!(notes.0.load(Ordering::SeqCst));
    }
}
