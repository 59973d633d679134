//! Notifications from other clients about this client's leases: by NOTIFY, or by mail if a pooler makes listening
//! impossible.

use std::sync::Arc;

use rlock_core::{Events, LeaseId};
use tokio::task::JoinSet;

use crate::link::Link;
use crate::listener::Listener;
use crate::mail::{Mailbox, Standing};
use crate::statement::Statement;

/// The inbox in which this client receives grants and breaks.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// A channel, or the address of mail. The prefix shows which.
    pub(crate) name: String,
    /// `None` if the client listens.
    mailbox: Option<Arc<Mailbox>>,
    _task: JoinSet<()>,
}

impl Inbox {
    /// A new name of a channel.
    pub(crate) fn channel() -> String {
        format!("rlock_{}", LeaseId::random().to_hex())
    }

    /// Listens on a channel.
    pub(crate) fn listen(channel: String, listener: Arc<Listener>) -> Self {
        Self { name: channel, mailbox: None, _task: JoinSet::from_iter([listener.hear()]) }
    }

    /// Polls for mail while some may come, on the server that was `started` at this time when the client connected.
    pub(crate) fn read(link: Arc<Link>, collect: Statement, started: i64, events: Events) -> Self {
        let name = format!("mail_{}", LeaseId::random().to_hex());
        let mailbox = Arc::new(Mailbox::default());
        let reading = mailbox.clone().read(link, collect, name.clone(), started, events);
        Self { name, mailbox: Some(mailbox), _task: JoinSet::from_iter([reading]) }
    }

    pub(crate) fn listens(&self) -> bool {
        self.mailbox.is_none()
    }

    /// Notes the state of a lease of this client.
    pub(crate) fn note(&self, id: LeaseId, standing: Standing) {
        self.mailbox.iter().for_each(|mailbox| mailbox.note(id, standing));
    }
}
