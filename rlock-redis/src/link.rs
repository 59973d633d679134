//! Keeps a connection open for commands.

use std::sync::Arc;
use std::time::Duration;

use rlock_core::{Backoff, Cause, Event, Events};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::conn::{Conn, Driver};
use crate::connect::Connector;
use crate::error::CallError;

/// A connection, or the reason that there is none.
#[derive(Debug)]
enum Current {
    Open(Arc<Conn>),
    Lost(CallError),
}

/// The current connection for commands, if there is one.
#[derive(Debug)]
pub(crate) struct Link {
    current: watch::Receiver<Current>,
    _task: JoinSet<()>,
}

impl Link {
    /// Keeps a connection open, beginning with `opened`; without one it opens the first one in the background. It
    /// notifies `replaced` when it has replaced a connection, so that other connections are checked as well.
    pub(crate) fn new(
        connector: Connector,
        opened: Option<(Arc<Conn>, Driver)>,
        events: Events,
        replaced: Arc<Notify>,
    ) -> Self {
        let first = match &opened {
            Some((conn, _driver)) => Current::Open(conn.clone()),
            None => Current::Lost(CallError::Unsent(Cause::new("the connection is being opened"))),
        };
        let (publish, current) = watch::channel(first);
        Self { current, _task: JoinSet::from_iter([keep_open(connector, opened, publish, events, replaced)]) }
    }

    /// The connection, or an error at once while it is being reopened.
    pub(crate) fn conn(&self) -> Result<Arc<Conn>, CallError> {
        match &*self.current.borrow() {
            Current::Open(conn) => Ok(conn.clone()),
            Current::Lost(error) => Err(error.clone()),
        }
    }

    /// The connection once there is one, or the reason that there is none within `limit`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub(crate) async fn opened(&self, limit: Duration) -> Result<Arc<Conn>, CallError> {
        let mut current = self.current.clone();
        let _late_or_gone = timeout(limit, current.wait_for(|current| matches!(current, Current::Open(_)))).await;
        self.conn()
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(&*self.current.borrow(), Current::Open(_))
    }
}

async fn keep_open(
    connector: Connector,
    mut opened: Option<(Arc<Conn>, Driver)>,
    publish: watch::Sender<Current>,
    events: Events,
    replaced: Arc<Notify>,
) {
    let mut backoff = Backoff::default();
    let publish_loss = |how: &str| {
        publish.send_replace(Current::Lost(CallError::Unsent(Cause::new(how))));
    };
    loop {
        let next = match opened.take() {
            Some((conn, mut driver)) => match outlived(&connector, &conn, &mut driver, &mut backoff).await {
                Some(next) => next,
                None => {
                    publish_loss("the connection is lost, and the client is reconnecting");
                    drop(driver);
                    tracing::warn!(store = %connector, "the connection to Redis is lost");
                    let failed = |error: &str| {
                        publish_loss(&format!("the connection is lost, and reconnecting fails so far: {error}"));
                    };
                    reopen(&connector, &mut backoff, failed).await
                }
            },
            None => {
                let failed = |error: &str| publish_loss(&format!("the connection cannot be opened so far: {error}"));
                reopen(&connector, &mut backoff, failed).await
            }
        };
        tracing::info!(store = %connector, "a connection to Redis is open");
        publish.send_replace(Current::Open(next.0.clone()));
        opened = Some(next);
        replaced.notify_one();
        events.send(Event::Resync);
    }
}

/// Returns when a connection has ended, or was replaced. If it turned out to be dead, also returns the new connection:
/// while the old one was silent, the server ran a script on the new one. A connection also ends when another server has
/// replaced its server.
pub(crate) async fn outlived(
    connector: &Connector,
    conn: &Conn,
    driver: &mut Driver,
    backoff: &mut Backoff,
) -> Option<(Arc<Conn>, Driver)> {
    let dead = async {
        loop {
            let silence = conn.suspected().await;
            while conn.is_silent(&silence) {
                if let Ok(opened) = try_open(connector, backoff).await
                    && conn.is_silent(&silence)
                    && timeout(Backoff::PATIENCE, opened.0.runs_scripts()).await == Ok(true)
                    && conn.is_silent(&silence)
                {
                    tracing::warn!(store = %connector, "a connection to Redis is dead, and was replaced");
                    return opened;
                }
            }
        }
    };
    tokio::select! {
        () = driver.ended() => None,
        () = connector.replaced(conn) => None,
        opened = dead => Some(opened),
    }
}

/// Opens a connection, and retries until it succeeds. Calls `failed` with each new error.
pub(crate) async fn reopen(connector: &Connector, backoff: &mut Backoff, failed: impl Fn(&str)) -> (Arc<Conn>, Driver) {
    let mut reported = String::new();
    loop {
        match try_open(connector, backoff).await {
            Ok(opened) => return opened,
            Err(error) => {
                let error = error.to_string();
                if error != reported {
                    tracing::warn!(store = %connector, error, "Redis is out of reach");
                    failed(&error);
                    reported = error;
                }
            }
        }
    }
}

/// Opens a connection after the backoff's pause.
async fn try_open(connector: &Connector, backoff: &mut Backoff) -> Result<(Arc<Conn>, Driver), CallError> {
    let limit = backoff.pause(connector.config.connect_timeout).await;
    let unanswered = || CallError::Unsent(Cause::new(format!("no answer within {limit:?}")));
    let opened = timeout(limit, connector.open()).await.unwrap_or_else(|_elapsed| Err(unanswered()));
    backoff.ended();
    opened
}
