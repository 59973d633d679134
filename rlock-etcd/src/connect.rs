//! Connects to one of the servers, and reconnects.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::select_ok;
use rlock_core::Backoff;
use tokio::time::timeout;

use crate::EtcdConfig;
use crate::conn::Conn;
use crate::error::{CallError, Kind};

/// Connects to the first server that answers. If none does, returns the last error.
pub(crate) async fn first_of_all(config: &EtcdConfig) -> Result<Arc<Conn>, CallError> {
    let open = |endpoint| Conn::open(config, endpoint).boxed();
    let mut endpoints: Vec<_> = config.endpoints.iter().collect();
    if let [only] = endpoints[..] {
        return open(only).await;
    }
    // This spreads the clients of a host over the servers.
    rand::seq::SliceRandom::shuffle(&mut endpoints[..], &mut rand::rng());
    match select_ok(endpoints.iter().map(|endpoint| open(endpoint))).await {
        Ok((conn, _slower)) => Ok(conn),
        Err(last) => Err(last),
    }
}

/// Reconnects, retrying until it succeeds.
pub(crate) async fn reopen(config: &EtcdConfig, backoff: &mut Backoff) -> Arc<Conn> {
    let mut reported = String::new();
    loop {
        match try_open(config, backoff).await {
            Ok(conn) => return conn,
            Err(error) => {
                let error = error.to_string();
                if error != reported {
                    tracing::warn!(store = %config.address(), error, "etcd is out of reach");
                    reported = error;
                }
            }
        }
    }
}

/// Opens a connection after the backoff's pause.
async fn try_open(config: &EtcdConfig, backoff: &mut Backoff) -> Result<Arc<Conn>, CallError> {
    let limit = backoff.pause(config.connect_timeout).await;
    let opened = timeout(limit, first_of_all(config)).await;
    backoff.ended();
    opened.map_err(|_elapsed| CallError::new(Kind::Unsent, format!("no answer within {limit:?}")))?
}
