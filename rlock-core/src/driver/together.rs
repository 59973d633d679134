//! Futures that send their requests together.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;

use futures_util::future::join_all;

thread_local! {
    static IS_TOGETHER: Cell<bool> = const { Cell::new(false) };
}

/// Awaits all futures. The requests that they send in one poll share a batch, while a lone request is sent at once.
pub(crate) async fn together<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let futures: Vec<F> = futures.into_iter().collect();
    let are_several = futures.len() > 1;
    let mut all = pin!(join_all(futures));
    poll_fn(|context| {
        let _until_polled = Together::set(are_several || is_together());
        all.as_mut().poll(context)
    })
    .await
}

/// Whether this thread polls futures [together].
pub(super) fn is_together() -> bool {
    IS_TOGETHER.get()
}

/// Restores the former value at its end, even after a panic.
struct Together(bool);

impl Together {
    fn set(value: bool) -> Self {
        Self(IS_TOGETHER.replace(value))
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        IS_TOGETHER.set(self.0);
    }
}
