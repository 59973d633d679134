//! Futures that send their requests together.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::join_all;

use super::{Driver, Slot};
use crate::lease::Verb;

thread_local! {
    /// The requests of the futures that this thread polls together; `None` if it polls none.
    static COLLECTED: RefCell<Option<Vec<Requests>>> = const { RefCell::new(None) };
}

/// Requests of one verb that wait for the end of a poll.
struct Requests {
    driver: Arc<Driver>,
    verb: Verb,
    slots: Vec<Arc<Slot>>,
}

/// Awaits all futures. The requests that they make in one poll are queued at its end, all at once, and share a batch.
pub(crate) async fn together<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let futures: Vec<F> = futures.into_iter().collect();
    let are_several = futures.len() > 1;
    let mut all = pin!(join_all(futures));
    poll_fn(|context| {
        let _sends_at_the_end = are_several.then(Collecting::begin);
        all.as_mut().poll(context)
    })
    .await
}

/// Keeps a request for the end of the poll, if this thread polls futures [together].
pub(super) fn collect(driver: &Arc<Driver>, verb: Verb, slot: &Arc<Slot>) -> bool {
    let is_collected = COLLECTED.try_with(|collected| {
        let mut collected = collected.borrow_mut();
        let Some(collected) = collected.as_mut() else { return false };
        match collected.iter_mut().find(|other| other.verb == verb && Arc::ptr_eq(&other.driver, driver)) {
            Some(requests) => requests.slots.push(slot.clone()),
            None => collected.push(Requests { driver: driver.clone(), verb, slots: vec![slot.clone()] }),
        }
        true
    });
    is_collected.unwrap_or_default() // a thread that is ending collects nothing
}

/// Sends the requests that this thread has collected so far. Call it before the thread blocks: the user's code in a poll
/// may make it do so.
pub(crate) fn send_collected() {
    let taken = COLLECTED.try_with(|collected| collected.borrow_mut().as_mut().map(std::mem::take));
    send(taken.ok().flatten());
}

fn send(collected: Option<Vec<Requests>>) {
    for Requests { driver, verb, slots } in collected.into_iter().flatten() {
        driver.send_all(verb, slots);
    }
}

/// A poll of several futures. Its end sends their requests, also after a panic.
struct Collecting {
    /// This poll is not inside another one, whose end would send them.
    is_outermost: bool,
}

impl Collecting {
    fn begin() -> Self {
        let is_outermost = COLLECTED.try_with(|collected| {
            let mut collected = collected.borrow_mut();
            let is_outermost = collected.is_none();
            if is_outermost {
                *collected = Some(Vec::new());
            }
            is_outermost
        });
        Self { is_outermost: is_outermost.unwrap_or_default() }
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        if self.is_outermost {
            send(COLLECTED.try_with(RefCell::take).ok().flatten());
        }
    }
}
