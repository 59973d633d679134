//! Keeps a connection open for commands.

use std::sync::Arc;

use rlock_core::{Backoff, Event, Events};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::RedisConfig;
use crate::conn::{Conn, Driver};
use crate::error::{CallError, Cause};

/// A connection, or why there is none.
#[derive(Debug)]
enum Current {
    Open(Arc<Conn>),
    Lost(CallError),
}

/// The connection that commands go over, while there is one.
#[derive(Debug)]
pub(crate) struct Link {
    current: watch::Receiver<Current>,
    _keeper: JoinSet<()>,
}

impl Link {
    /// `replaced` is notified when a connection was replaced, so that other connections are checked as well.
    pub(crate) fn new(
        config: Arc<RedisConfig>,
        conn: Arc<Conn>,
        driver: Driver,
        events: Events,
        replaced: Arc<Notify>,
    ) -> Self {
        let (publish, current) = watch::channel(Current::Open(conn.clone()));
        Self { current, _keeper: JoinSet::from_iter([keep_open(config, (conn, driver), publish, events, replaced)]) }
    }

    /// The connection, or an error at once while it is being opened again.
    pub(crate) fn conn(&self) -> Result<Arc<Conn>, CallError> {
        match &*self.current.borrow() {
            Current::Open(conn) => Ok(conn.clone()),
            Current::Lost(error) => Err(error.clone()),
        }
    }
}

async fn keep_open(
    config: Arc<RedisConfig>,
    mut opened: (Arc<Conn>, Driver),
    publish: watch::Sender<Current>,
    events: Events,
    replaced: Arc<Notify>,
) {
    let mut backoff = Backoff::default();
    loop {
        let (conn, mut driver) = opened;
        opened = match outlived(&config, &conn, &mut driver, &mut backoff).await {
            Some(next) => next,
            None => {
                let publish_loss = |how: &str| {
                    let reason = format!("the connection is lost, and {how}");
                    publish.send_replace(Current::Lost(CallError::Unsent(Cause::new(reason))));
                };
                publish_loss("being opened again");
                drop(driver);
                tracing::warn!(store = %config.address(), "the connection to Redis is lost");
                let failed = |error: &str| publish_loss(&format!("cannot be opened again so far: {error}"));
                reopen(&config, &mut backoff, failed).await
            }
        };
        tracing::info!(store = %config.address(), "the connection to Redis is open again");
        publish.send_replace(Current::Open(opened.0.clone()));
        replaced.notify_one();
        events.send(Event::Resync);
    }
}

/// Returns when a connection has ended, or has turned out to be dead, with the one that showed it: while the old one
/// was silent, the server ran a script on the new one.
pub(crate) async fn outlived(
    config: &RedisConfig,
    conn: &Conn,
    driver: &mut Driver,
    backoff: &mut Backoff,
) -> Option<(Arc<Conn>, Driver)> {
    let dead = async {
        loop {
            let silence = conn.suspected().await;
            while conn.is_silent(&silence) {
                if let Ok(opened) = try_open(config, backoff).await
                    && conn.is_silent(&silence)
                    && timeout(Backoff::PATIENCE, opened.0.runs_scripts()).await == Ok(true)
                    && conn.is_silent(&silence)
                {
                    tracing::warn!(store = %config.address(), "a connection to Redis is dead, and was replaced");
                    return opened;
                }
            }
        }
    };
    tokio::select! {
        () = driver.ended() => None,
        opened = dead => Some(opened),
    }
}

/// Opens a connection, however long that takes. Calls `failed` with each new reason why it takes long.
pub(crate) async fn reopen(config: &RedisConfig, backoff: &mut Backoff, failed: impl Fn(&str)) -> (Arc<Conn>, Driver) {
    let mut reported = String::new();
    loop {
        match try_open(config, backoff).await {
            Ok(opened) => return opened,
            Err(error) => {
                let error = error.to_string();
                if error != reported {
                    tracing::warn!(store = %config.address(), error, "Redis is out of reach");
                    failed(&error);
                    reported = error;
                }
            }
        }
    }
}

/// Opens a connection after a pause.
async fn try_open(config: &RedisConfig, backoff: &mut Backoff) -> Result<(Arc<Conn>, Driver), CallError> {
    let limit = backoff.pause(config.connect_timeout).await;
    let unanswered = || CallError::Unsent(Cause::new(format!("no answer within {limit:?}")));
    let opened = timeout(limit, Conn::open(config)).await.unwrap_or_else(|_elapsed| Err(unanswered()));
    backoff.ended();
    opened
}
