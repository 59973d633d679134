//! Watches a resource: asks the store again and again, and reports what has changed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Client;
use super::handle::Drains;
use crate::contract::{BackendError, Failure, ResourceName, Snapshot};
use crate::driver::Driver;

/// The time between two questions.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between them, when a lease is about to end.
const SHORTEST: Duration = Duration::from_millis(100);
/// The time without an answer after which the last one may be out of date.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Changes that the user has not taken yet, beyond which the store is not asked again.
const UNREAD: usize = 16;

/// The state of a resource, as the watcher wants to see it.
pub(crate) trait View: Clone + Send + 'static {
    fn of(answer: Result<Snapshot, BackendError>) -> Self;

    /// Whether the other one shows no change.
    fn is_same(&self, other: &Self) -> bool;
}

impl View for Result<Snapshot, BackendError> {
    fn of(answer: Self) -> Self {
        answer
    }

    fn is_same(&self, other: &Self) -> bool {
        let tokens = |snapshot: &Snapshot| snapshot.holders.iter().map(|holder| holder.token).collect::<Vec<_>>();
        match (self, other) {
            (Ok(one), Ok(other)) => {
                tokens(one) == tokens(other)
                    && one.queue.iter().map(|waiter| &waiter.owner).eq(other.queue.iter().map(|waiter| &waiter.owner))
                    && one.rest.is_some() == other.rest.is_some()
            }
            (Err(_), Err(_)) => true,
            _ => false,
        }
    }
}

/// The state of a resource at first, then each change that is seen. Ends with the client.
pub(crate) struct Watching<V>(mpsc::Receiver<V>);

impl<V: View> Watching<V> {
    /// Starts a task on the client's runtime, which ends with this.
    pub(crate) fn start(client: &Client, resource: ResourceName) -> Self {
        let (sender, changes) = mpsc::channel(UNREAD);
        // The task is no handle of the client, which therefore ends as if nothing watched.
        let handle = client.handle();
        client.spawn(watch(handle.driver.clone(), handle.drains().clone(), resource, sender));
        Self(changes)
    }
}

impl<V> Stream for Watching<V> {
    type Item = V;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<V>> {
        self.0.poll_recv(context)
    }
}

async fn watch<V: View>(driver: Arc<Driver>, drains: Drains, resource: ResourceName, sender: mpsc::Sender<V>) {
    let mut last: Option<V> = None;
    while !driver.is_closed() || drains.are_under_way() {
        let answer = tokio::select! {
            answer = look(&driver, &resource) => answer,
            () = sender.closed() => return,
        };
        let next_end = answer.iter().flat_map(|snapshot| &snapshot.holders).map(|holder| holder.remaining).min();
        let pause = next_end.unwrap_or(INTERVAL).clamp(SHORTEST, INTERVAL);
        let now = V::of(answer);
        if !last.as_ref().is_some_and(|last| last.is_same(&now)) {
            if sender.send(now.clone()).await.is_err() {
                return;
            }
            last = Some(now);
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = sender.closed() => return,
        }
    }
}

async fn look(driver: &Arc<Driver>, resource: &ResourceName) -> Result<Snapshot, BackendError> {
    let resource = resource.clone();
    let asked = driver.call("inspect", async move |backend| backend.inspect(&resource).await);
    timeout(ANSWERS_WITHIN, asked).await.unwrap_or_else(|_elapsed| {
        let reason = format!("no answer within {ANSWERS_WITHIN:?}: the server or the network is stuck or slow");
        Err(BackendError::Unknown(Failure::new("inspect", driver.backend().capabilities().backend, reason)))
    })
}
