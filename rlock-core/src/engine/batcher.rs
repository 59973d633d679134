//! Requests of one kind on their way to the store: a few calls at a time, and what comes meanwhile goes along with
//! the next.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The requests that wait for one of a few workers.
///
/// Nothing ever waits for more to come: a request that finds a worker free is sent at once and alone.
#[derive(Debug)]
pub(crate) struct Batcher<T> {
    queue: Mutex<Queue<T>>,
    max_workers: usize,
    max_batch: usize,
}

/// Up to this many requests go together rather than over several workers.
const WORTH_A_CALL: usize = 16;

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<T>,
    workers: usize,
}

impl<T> Batcher<T> {
    pub(crate) fn new(max_workers: usize, max_batch: usize) -> Self {
        Self { queue: Mutex::new(Queue { waiting: VecDeque::new(), workers: 0 }), max_workers, max_batch }
    }

    /// Hands over a request. [`start`](Self::start) has to follow, after this one or after several.
    pub(crate) fn push(&self, request: T) {
        self.lock().waiting.push_back(request);
    }

    /// What a new worker is to send, if there is anything and a worker is free.
    pub(crate) fn start(&self) -> Option<Vec<T>> {
        let mut queue = self.lock();
        if queue.workers == self.max_workers || queue.waiting.is_empty() {
            return None;
        }
        queue.workers += 1;
        Some(self.take(&mut queue))
    }

    /// What a worker that is done is to send next. `None` ends the worker.
    pub(crate) fn next(&self) -> Option<Vec<T>> {
        let mut queue = self.lock();
        if queue.waiting.is_empty() {
            queue.workers -= 1;
            return None;
        }
        Some(self.take(&mut queue))
    }

    /// Takes back the place of a worker that has ended otherwise than by [`next`](Self::next).
    pub(crate) fn leave(&self) {
        self.lock().workers -= 1;
    }

    /// A worker's share of what waits: all of it if that is little, else so much that every worker has something to
    /// send. The store then works on one call while this side works on what came of another.
    fn take(&self, queue: &mut Queue<T>) -> Vec<T> {
        let share = queue.waiting.len().div_ceil(self.max_workers).max(WORTH_A_CALL).min(self.max_batch);
        let taken = share.min(queue.waiting.len());
        queue.waiting.drain(..taken).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_all_workers_are_busy_goes_together() {
        let batcher = Batcher::new(1, 3);
        batcher.push(0);
        assert_eq!(batcher.start(), Some(vec![0]));
        for later in 1..=4 {
            batcher.push(later);
            assert_eq!(batcher.start(), None);
        }
        assert_eq!(batcher.next(), Some(vec![1, 2, 3]));
        assert_eq!(batcher.next(), Some(vec![4]));
        assert_eq!(batcher.next(), None);
        batcher.push(5);
        batcher.push(6);
        assert_eq!(batcher.start(), Some(vec![5, 6]), "what comes together goes together");
    }

    #[test]
    fn what_is_many_is_shared_among_the_workers() {
        let batcher = Batcher::new(3, 1000);
        (0..90).for_each(|request| batcher.push(request));
        let shares = [batcher.start(), batcher.start(), batcher.start(), batcher.start()];
        assert_eq!(shares.map(|share| share.map(|share| share.len())), [Some(30), Some(20), Some(16), None]);
        assert_eq!(batcher.next().map(|rest| rest.len()), Some(16));
    }
}
