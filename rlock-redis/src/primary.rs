//! The connections to one primary.

use std::sync::Arc;
use std::time::Duration;

use rlock_core::Events;
use tokio::sync::Notify;

use crate::address::Address;
use crate::conn::{Conn, Driver};
use crate::connect::{Connector, Server};
use crate::error::CallError;
use crate::link::Link;
use crate::replicas::Confirmations;

/// A primary, and the connections to it.
#[derive(Debug)]
pub(crate) struct Primary {
    connector: Connector,
    commands: Link,
    confirmations: Option<Confirmations>,
}

impl Primary {
    /// A primary with the connection `opened`, or one that is connected in the background. `events` gets a resync
    /// whenever a connection was opened, because events may have been lost until then.
    pub(crate) fn new(
        connector: Connector,
        opened: Option<(Arc<Conn>, Driver)>,
        events: &Events,
        doubted: &Arc<Notify>,
    ) -> Self {
        let confirmations = connector.config.replicas.map(|wanted| {
            let link = Link::new(connector.clone(), None, Events::default(), Arc::default());
            Confirmations::new(link, wanted)
        });
        let commands = Link::new(connector.clone(), opened, events.clone(), doubted.clone());
        Self { connector, commands, confirmations }
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The connection for commands.
    pub(crate) fn commands(&self) -> Result<Arc<Conn>, CallError> {
        self.commands.conn()
    }

    /// The number of replicas that have all earlier writes over a connection. See [`Confirmations::count`].
    pub(crate) async fn confirmed(&self, written: &Conn, key: String) -> Result<u64, CallError> {
        match &self.confirmations {
            Some(confirmations) => confirmations.count(written, key).await,
            None => Ok(u64::MAX), // no confirmation is wanted
        }
    }

    /// The connection for commands once it is open. See [`Link::opened`].
    pub(crate) async fn opened(&self, limit: Duration) -> Result<Arc<Conn>, CallError> {
        self.commands.opened(limit).await
    }

    pub(crate) fn is_open(&self) -> bool {
        self.commands.is_open()
    }

    /// The address of a node of a cluster.
    ///
    /// # Panics
    ///
    /// Panics if the server has no fixed address.
    pub(crate) fn address(&self) -> &Address {
        match &self.connector.server {
            Server::At(address) => address,
            Server::Named(_) | Server::AnyOf(_) => unreachable!("only nodes of a cluster are asked for their address"),
        }
    }
}
