//! Receives the server's messages to this client, on a separate connection that is subscribed to the client's inbox.

use std::sync::Arc;
use std::time::Duration;

use rlock_core::{Backoff, Event, Events};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::conn::{Conn, Driver};
use crate::connect::Connector;
use crate::error::CallError;
use crate::link::{outlived, reopen};
use crate::messages::{Delivery, Messages};

/// The longest silence of the subscription before a ping checks its connection.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);

/// The subscription, which is renewed whenever its connection breaks.
#[derive(Debug)]
pub(crate) struct Inbox {
    _listener: JoinSet<()>,
}

impl Inbox {
    /// Subscribes to `channel`. A notification of `doubted` makes a ping check the subscription's connection.
    pub(crate) async fn open(
        connector: Connector,
        channel: String,
        events: Events,
        doubted: Arc<Notify>,
    ) -> Result<Self, CallError> {
        let (conn, driver) = connector.open().await?;
        let messages = Messages::subscribe(&conn, &connector.config, &channel).await?;
        let subscription = (conn, driver, messages);
        Ok(Self { _listener: JoinSet::from_iter([listen(connector, channel, events, doubted, subscription)]) })
    }
}

async fn listen(
    connector: Connector,
    channel: String,
    events: Events,
    doubted: Arc<Notify>,
    mut subscription: (Arc<Conn>, Driver, Messages),
) {
    let mut backoff = Backoff::default();
    loop {
        let (conn, driver, messages) = subscription;
        let mut opened = deliver(&connector, (&conn, driver, messages), &events, &doubted, &mut backoff).await;
        tracing::warn!(store = %connector, "the subscription to Redis is lost");
        let mut reported = String::new();
        subscription = loop {
            let (conn, driver) = match opened.take() {
                Some(opened) => opened,
                None => reopen(&connector, &mut backoff, |_| {}).await,
            };
            match Messages::subscribe(&conn, &connector.config, &channel).await {
                Ok(messages) => break (conn, driver, messages),
                Err(error) => {
                    let error = error.to_string();
                    if error != reported {
                        tracing::warn!(store = %connector, error, "Redis refuses the subscription");
                        reported = error;
                    }
                }
            }
        };
        events.send(Event::Resync);
    }
}

/// Passes messages on until the connection breaks or proves dead; in the latter case it returns the connection that
/// proved it. It sends only heartbeats over the connection, because without them a dead connection would go unnoticed.
async fn deliver(
    connector: &Connector,
    (conn, mut driver, mut messages): (&Conn, Driver, Messages),
    events: &Events,
    doubted: &Notify,
    backoff: &mut Backoff,
) -> Option<(Arc<Conn>, Driver)> {
    let beat = async {
        loop {
            let _whichever_is_first =
                tokio::time::timeout(connector.config.timeout.min(LONGEST_SILENCE), doubted.notified()).await;
            if conn.ping().await.is_err() {
                return;
            }
        }
    };
    let pass_on = async {
        loop {
            match messages.next().await {
                Delivery::Message(text) => match Event::from_notice(&text) {
                    // A grant counts only once replicas have confirmed it. This event makes core extend the lease,
                    // which asks them.
                    Some(Event::Granted { id, .. }) if connector.config.replicas.is_some() => {
                        events.send(Event::Broken { id });
                    }
                    Some(event) => events.send(event),
                    None => tracing::warn!("a message in the inbox is not one of rlock's"),
                },
                Delivery::Missed => events.send(Event::Resync),
            }
        }
    };
    tokio::select! {
        opened = outlived(connector, conn, &mut driver, backoff) => opened,
        () = beat => None,
        () = pass_on => None,
    }
}
