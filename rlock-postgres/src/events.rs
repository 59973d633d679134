//! What other clients tell this one about its leases: by NOTIFY, or by mail where a pooler makes it impossible to listen.

use std::sync::Arc;

use rlock_core::{Event, Events, LeaseId, Ttl};
use tokio::task::JoinSet;

use crate::link::Link;
use crate::listener::Listener;
use crate::mail::Mailbox;
use crate::statement::Statement;

/// Where this client is told of grants and breaks.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// A channel, or the name that mail is addressed to. Other clients tell them apart by how they begin.
    pub(crate) name: String,
    /// `None` if it listens.
    mailbox: Option<Arc<Mailbox>>,
    _task: JoinSet<()>,
}

/// The state of a lease, as far as others may write about it. It is neither any more once it was not extended for its TTL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Queued(Ttl),
    Held(Ttl),
    Over,
}

impl Inbox {
    /// The name of a channel.
    pub(crate) fn channel() -> String {
        format!("rlock_{}", LeaseId::random().to_hex())
    }

    /// Listens on a channel.
    pub(crate) fn listen(channel: String, listener: Arc<Listener>) -> Self {
        Self { name: channel, mailbox: None, _task: JoinSet::from_iter([listener.hear()]) }
    }

    /// Reads mail, from time to time while there may be some.
    pub(crate) fn read(link: Arc<Link>, collect: Statement, events: Events) -> Self {
        let name = format!("mail_{}", LeaseId::random().to_hex());
        let mailbox = Arc::new(Mailbox::default());
        let reading = mailbox.clone().read(link, collect, name.clone(), events);
        Self { name, mailbox: Some(mailbox), _task: JoinSet::from_iter([reading]) }
    }

    pub(crate) fn listens(&self) -> bool {
        self.mailbox.is_none()
    }

    /// Takes note of the state of a lease of this client.
    pub(crate) fn note(&self, id: LeaseId, standing: Standing) {
        self.mailbox.iter().for_each(|mailbox| mailbox.note(id, standing));
    }
}

pub(crate) fn deliver(events: &Events, message: &str) {
    match Event::from_notice(message) {
        Some(event) => events.send(event),
        None => tracing::warn!("a message in the inbox is not one of rlock's"),
    }
}
