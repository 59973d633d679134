//! Waits for several servers at once, but not for those that hang.

use std::iter;
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

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn straggler_is_left_out() {
        let after = |number: usize, seconds: u64| async move {
            sleep(Duration::from_secs(seconds)).await;
            (number, seconds)
        };
        let futures = || [after(0, 9), after(1, 1), after(2, 3)].into_iter().collect::<FuturesUnordered<_>>();
        let patience = Duration::from_secs(5);
        assert_eq!(without_stragglers(futures(), patience, |_| true).await, [None, Some(1), Some(3)]);
        assert_eq!(without_stragglers(futures(), patience, |_| false).await, [Some(9), Some(1), Some(3)]);
    }
}
