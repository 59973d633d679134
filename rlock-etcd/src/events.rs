//! Where events go.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use rlock_core::{Event, EventStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// What core is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Option<UnboundedSender<Event>>>>);

impl Events {
    /// The events from now on. A stream that was taken before ends.
    pub(crate) fn stream(&self) -> EventStream {
        let (sender, mut receiver) = unbounded_channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()
    }

    pub(crate) fn send(&self, event: Event) {
        if let Some(sender) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _nobody_listens = sender.send(event);
        }
    }
}
