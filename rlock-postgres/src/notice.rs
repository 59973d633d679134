//! Turns the text of a notification into an event.

use rlock_core::{Event, Events};

pub(crate) fn deliver(events: &Events, message: &str) {
    match Event::from_notice(message) {
        Some(event) => events.send(event),
        None => tracing::warn!("a message in the inbox is not one of rlock's"),
    }
}
