//! Where a backend puts its events.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::{Event, EventStream};

/// What a backend answers [`Backend::events`](crate::Backend::events) from. Its clones share one stream.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<Option<UnboundedSender<Event>>>>);

impl Events {
    /// The events that are sent from now on, in order. A stream that was taken before ends.
    pub fn stream(&self) -> EventStream {
        let (sender, mut receiver) = unbounded_channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()
    }

    /// Says something, from any thread; to nobody, if nobody has taken the stream yet, or has dropped it.
    pub fn send(&self, event: Event) {
        if let Some(sender) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _nobody_listens = sender.send(event);
        }
    }
}
