//! Opens connections to the server of a link or a subscription.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rand::seq::SliceRandom as _;
use rlock_core::Cause;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::address::Address;
use crate::client::Endpoint;
use crate::conn::{Conn, Driver};
use crate::error::CallError;
use crate::sentinel::Sentinels;
use crate::{RedisConfig, server, uptime};

/// The time after which the next server is tried as well, where any server will do.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(300);

/// Opens connections to a server that accepts writes.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    pub(crate) config: Arc<RedisConfig>,
    pub(crate) server: Server,
    /// The key of the mark of [`Grace`](crate::grace::Grace), for connections that grant.
    pub(crate) mark: Option<Arc<str>>,
}

/// The server to connect to.
#[derive(Debug, Clone)]
pub(crate) enum Server {
    /// A fixed address.
    At(Address),
    /// The primary that the sentinels name.
    Named(Arc<Sentinels>),
    /// Any of the primaries of a cluster that can be reached.
    AnyOf(watch::Receiver<Vec<Address>>),
}

impl Connector {
    /// Opens a connection. Errors name the server if the URL does not.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no connection behind.
    pub(crate) async fn open(&self) -> Result<(Arc<Conn>, Driver), CallError> {
        let mark = self.mark.as_deref();
        match &self.server {
            Server::At(address) => open(&self.config, address, mark).await,
            Server::Named(sentinels) => {
                let address = sentinels.primary().await?;
                let opened = open(&self.config, &address, mark).await;
                opened.map_err(|error| error.about(format!("{address}, the primary that the sentinels name")))
            }
            Server::AnyOf(primaries) => {
                let mut addresses = primaries.borrow().clone();
                addresses.shuffle(&mut rand::rng());
                open_any(&self.config, addresses, mark).await
            }
        }
    }

    /// Returns when another server has replaced the one that `conn` leads to.
    pub(crate) async fn replaced(&self, conn: &Conn) {
        match &self.server {
            Server::At(_) => std::future::pending().await,
            Server::Named(sentinels) => sentinels.replaced(conn.address()).await,
            Server::AnyOf(primaries) => {
                let is_out = |primaries: &Vec<Address>| !primaries.contains(conn.address());
                if primaries.clone().wait_for(is_out).await.is_err() {
                    std::future::pending().await
                }
            }
        }
    }
}

/// Opens a connection to any of the servers. The attempts begin one after the other, because a server may hang.
async fn open_any(
    config: &RedisConfig,
    addresses: Vec<Address>,
    mark: Option<&str>,
) -> Result<(Arc<Conn>, Driver), CallError> {
    let (mut left, mut begun) = (addresses.into_iter(), FuturesUnordered::new());
    let mut failed = CallError::Unsent(Cause::new("no primary of the cluster is known"));
    loop {
        match left.next() {
            Some(address) => begun.push(open_named(config, address, mark)),
            None if begun.is_empty() => return Err(failed),
            None => {}
        }
        match timeout(BETWEEN_ATTEMPTS, begun.next()).await {
            Ok(Some(Ok(opened))) => return Ok(opened),
            Ok(Some(Err(error))) => failed = error,
            Ok(None) | Err(_) => {}
        }
    }
}

/// As [`open`]. Errors name the server.
async fn open_named(
    config: &RedisConfig,
    address: Address,
    mark: Option<&str>,
) -> Result<(Arc<Conn>, Driver), CallError> {
    open(config, &address, mark).await.map_err(|error| error.about(address))
}

/// Connects, logs in and selects the database. Checks that the server accepts writes, and that it is a node of a
/// cluster if the URL says so.
///
/// Claims fail while the server withholds its uptime; other requests work. See [`Grace`](crate::grace::Grace).
async fn open(config: &RedisConfig, address: &Address, mark: Option<&str>) -> Result<(Arc<Conn>, Driver), CallError> {
    let in_cluster = config.is_cluster();
    let database = (!in_cluster).then_some(config.database);
    let endpoint = Endpoint { database, ..Endpoint::of_node(config, address) };
    let (mut conn, driver) = Conn::open(&endpoint).await?;
    conn.switch_protocol(&endpoint).await?;
    let grace = async {
        match mark {
            Some(mark) => uptime::learn_grace(&conn, mark).await,
            None => Ok(()),
        }
    };
    let clock = async {
        match mark {
            Some(_) => conn.read_clock().await,
            None => Ok(()),
        }
    };
    let identity = async {
        match (mark, &config.replicas) {
            (Some(_), Some(_)) => server::identity(&conn, Duration::ZERO).await,
            _ => Ok(None),
        }
    };
    // Claims have no deadline while the clock is unknown.
    let (is_fit, grace, _clock, identity) =
        tokio::join!(server::check_mode_and_role(&conn, in_cluster), grace, clock, identity);
    is_fit?;
    conn.set_identity(identity?);
    match grace {
        // A claim checks this again: the server withholds its uptime, or no longer serves the key.
        Ok(()) | Err(CallError::Unfit(_) | CallError::Refused(_)) => Ok((Arc::new(conn), driver)),
        Err(error) => Err(error),
    }
}

/// The server, for logs.
impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Server::At(address) => address.fmt(f),
            Server::Named(_) | Server::AnyOf(_) => f.write_str(&self.config.address()),
        }
    }
}
