//! The event stream of a backend.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{Event, EventStream};

/// The source of a backend's [`events`](crate::Backend::events). Clones share the streams.
///
/// Each stream gets every event, so that several clients may share one backend: a client ignores the events of leases
/// that are not its own.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<Vec<UnboundedSender<Event>>>>);

impl Events {
    /// Returns a stream of the events that are sent from now on, in order.
    pub fn stream(&self) -> EventStream {
        let (sender, mut receiver) = unbounded_channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()
    }

    /// Sends an event to every stream that is not dropped. Any thread may call it.
    pub fn send(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|stream| stream.send(event).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_stream_gets_every_event() {
        let events = Events::default();
        let (mut first, mut second) = (events.stream(), events.stream());
        events.send(Event::Resync);
        assert_eq!(first.next().await, Some(Event::Resync));
        assert_eq!(second.next().await, Some(Event::Resync));
        drop(first);
        events.send(Event::Resync);
        assert_eq!(second.next().await, Some(Event::Resync));
    }
}
