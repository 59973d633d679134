//! Waits for several servers at once, but not for those that hang.

use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

/// The outputs of futures that give their numbers as well, in the order of the numbers. Once an output `serves`, the
/// futures that are left are dropped when none of them ends within `patience`.
pub(crate) async fn without_stragglers<T>(
    mut futures: FuturesUnordered<impl Future<Output = (usize, T)>>,
    patience: Duration,
    serves: impl Fn(&T) -> bool,
) -> Vec<Option<T>> {
    let mut outputs: Vec<Option<T>> = iter::repeat_with(|| None).take(futures.len()).collect();
    let mut limit = Duration::MAX;
    while let Ok(Some((number, output))) = timeout(limit, futures.next()).await {
        if serves(&output) {
            limit = patience;
        }
        outputs[number] = Some(output);
    }
    outputs
}

/// As [`without_stragglers`], but drops futures only once more than half of all outputs serve.
pub(crate) async fn without_few_stragglers<T>(
    futures: FuturesUnordered<impl Future<Output = (usize, T)>>,
    patience: Duration,
    serves: impl Fn(&T) -> bool,
) -> Vec<Option<T>> {
    let (half, served) = (futures.len() / 2, AtomicUsize::new(0));
    let most_serve = |output: &T| serves(output) && served.fetch_add(1, Ordering::Relaxed) >= half;
    without_stragglers(futures, patience, most_serve).await
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    async fn after(number: usize, seconds: u64) -> (usize, u64) {
        sleep(Duration::from_secs(seconds)).await;
        (number, seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn straggler_is_left_out() {
        let futures = || [after(0, 9), after(1, 1), after(2, 3)].into_iter().collect::<FuturesUnordered<_>>();
        let patience = Duration::from_secs(5);
        assert_eq!(without_stragglers(futures(), patience, |_| true).await, [None, Some(1), Some(3)]);
        assert_eq!(without_stragglers(futures(), patience, |_| false).await, [Some(9), Some(1), Some(3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn few_stragglers_are_left_out() {
        let asked = |seconds: [u64; 3]| {
            let futures = seconds.into_iter().enumerate().map(|(number, seconds)| after(number, seconds));
            without_few_stragglers(futures.collect(), Duration::from_secs(5), |_| true)
        };
        assert_eq!(asked([1, 2, 9]).await, [Some(1), Some(2), None]);
        assert_eq!(asked([1, 9, 9]).await, [Some(1), Some(9), Some(9)]);
    }
}
