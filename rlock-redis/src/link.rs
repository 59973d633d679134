//! Keeps a connection open for commands.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::RedisConfig;
use crate::conn::{Conn, Driver};
use crate::error::{CallError, Cause};
use crate::inbox::Events;

/// The connection that commands go over, while there is one.
#[derive(Debug)]
pub(crate) struct Link {
    current: watch::Receiver<Option<Arc<Conn>>>,
    _keeper: Task,
}

impl Link {
    pub(crate) fn new(config: Arc<RedisConfig>, conn: Arc<Conn>, driver: Driver, events: Events) -> Self {
        let (publish, current) = watch::channel(Some(conn));
        Self { current, _keeper: Task::spawn(keep_open(config, driver, publish, events)) }
    }

    /// The connection, or an error at once while it is being opened again.
    pub(crate) fn conn(&self) -> Result<Arc<Conn>, CallError> {
        let lost = || CallError::Unsent(Cause::new("the connection is lost, and being opened again"));
        self.current.borrow().clone().ok_or_else(lost)
    }
}

async fn keep_open(
    config: Arc<RedisConfig>,
    mut driver: Driver,
    publish: watch::Sender<Option<Arc<Conn>>>,
    events: Events,
) {
    let mut backoff = Backoff::default();
    loop {
        driver.ended().await;
        publish.send_replace(None);
        drop(driver);
        tracing::warn!(store = %config.address(), "the connection to Redis is lost");
        let conn;
        (conn, driver) = reopen(&config, &mut backoff).await;
        tracing::info!(store = %config.address(), "the connection to Redis is open again");
        publish.send_replace(Some(conn));
        events.resync();
    }
}

/// Opens a connection, however long that takes.
pub(crate) async fn reopen(config: &RedisConfig, backoff: &mut Backoff) -> (Arc<Conn>, Driver) {
    let mut reported = String::new();
    loop {
        backoff.wait().await;
        match Conn::open(config).await {
            Ok(opened) => return opened,
            Err(error) => {
                let error = error.to_string();
                if error != reported {
                    tracing::warn!(store = %config.address(), error, "Redis is out of reach");
                    reported = error;
                }
            }
        }
    }
}

/// Jittered pauses that grow while connections fail or last for less than a second.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    pause: Duration,
    tried: Option<Instant>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(1);

    pub(crate) async fn wait(&mut self) {
        let lasted = self.tried.is_none_or(|tried| tried.elapsed() > Self::LONGEST);
        self.pause = if lasted { Self::FIRST } else { (self.pause * 2).min(Self::LONGEST) };
        tokio::time::sleep(self.pause.mul_f64(rand::random_range(0.5..1.0))).await;
        self.tried = Some(Instant::now());
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
