//! The cancellation token of several locks.

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::Guard;
use crate::lease::End;

/// Returns a token that is cancelled when the first of the locks is lost. A task of the client watches them.
pub(super) fn cancelled_by_a_loss(guards: &[Guard]) -> CancellationToken {
    let token = CancellationToken::new();
    if let Some(guard) = guards.first() {
        let ends = guards.iter().map(|guard| guard.ended().boxed()).collect();
        guard.spawn(Cancelling { token: token.clone(), ends }.run());
    }
    token
}

/// A token, and the ends of the locks that cancel it.
struct Cancelling {
    token: CancellationToken,
    ends: FuturesUnordered<BoxFuture<'static, End>>,
}

impl Cancelling {
    async fn run(mut self) {
        while let Some(end) = self.ends.next().await {
            if let End::Lost(_) = end {
                self.token.cancel();
            }
        }
    }
}

impl Drop for Cancelling {
    /// Cancels the token if the runtime has ended before the locks: they are lost with it.
    fn drop(&mut self) {
        loop {
            match self.ends.next().now_or_never() {
                Some(None) => return,
                Some(Some(End::Released)) => {}
                Some(Some(End::Lost(_))) | None => return self.token.cancel(),
            }
        }
    }
}
