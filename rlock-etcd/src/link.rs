//! Keeps a connection to one of the servers open, and makes calls over it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rlock_core::Backoff;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::EtcdConfig;
use crate::conn::Conn;
use crate::connect::{first_of_all, reopen};
use crate::error::{CallError, Kind};

/// How long a call may be unanswered before its connection is probed, and the call is sent once more. If a server has
/// forwarded a request to a leader that then died, it answers only when it gives up, after seven seconds. A request
/// sent after the election is answered at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a call waits for a connection if there is none.
const CONNECTED_WITHIN: Duration = Duration::from_millis(250);
/// The first and the longest pause before a failed call is retried.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How long the probe of the connection may take before other servers are tried.
const HEAD_START: Duration = Duration::from_millis(250);

/// The current connection, if there is one.
#[derive(Debug)]
pub(crate) struct Link {
    current: watch::Receiver<Option<Arc<Conn>>>,
    doubted: Arc<Notify>,
    timeout: Duration,
    _task: JoinSet<()>,
}

/// A reply of the server, and whether its request may have been carried out twice.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    pub(crate) value: T,
    pub(crate) repeated: bool,
}

impl Link {
    /// Connects to the first server that answers.
    pub(crate) async fn open(config: Arc<EtcdConfig>) -> Result<Self, CallError> {
        let conn = first_of_all(&config).await?;
        let (publish, current) = watch::channel(Some(conn.clone()));
        let doubted = Arc::new(Notify::new());
        let timeout = config.timeout;
        let task = JoinSet::from_iter([keep_open(config, conn, publish, doubted.clone())]);
        Ok(Self { current, doubted, timeout, _task: task })
    }

    /// Waits for a connection other than `before`.
    pub(crate) async fn another(&self, before: Option<&Arc<Conn>>) -> Arc<Conn> {
        let mut current = self.current.clone();
        let is_another = |conn: &Option<Arc<Conn>>| match (conn, before) {
            (Some(conn), Some(before)) => !Arc::ptr_eq(conn, before),
            (conn, _) => conn.is_some(),
        };
        let conn = current.wait_for(is_another).await.ok().and_then(|conn| conn.clone());
        match conn {
            Some(conn) => conn,
            None => std::future::pending().await, // the client is being closed
        }
    }

    /// Has the connection probed, and replaced if it is dead or its server is cut off from the others.
    pub(crate) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Makes a call, which may be carried out more than once. It is sent again if it gets stuck, on a dead connection
    /// or behind a dead leader, or fails for a transient reason; the first answer counts.
    ///
    /// # Cancel safety
    ///
    /// A call whose future is dropped may be carried out.
    pub(crate) async fn call<T, F>(&self, request: impl Fn(Arc<Conn>) -> F) -> Result<Reply<T>, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let deadline = Instant::now() + self.timeout;
        let mut under_way = FuturesUnordered::new();
        let (mut sent, mut patience, mut pause) = (0, PATIENCE, FIRST_PAUSE);
        let mut failed: Option<CallError> = None;
        loop {
            let conn = match under_way.is_empty() {
                true => timeout(CONNECTED_WITHIN, self.another(None)).await.ok(),
                false => self.current.borrow().clone(),
            };
            match conn {
                Some(conn) => {
                    under_way.push(on(conn.clone(), request(conn)));
                    sent += 1;
                }
                None if under_way.is_empty() => return Err(failed.unwrap_or_else(lost)),
                None => {}
            }
            let again = (Instant::now() + patience).min(deadline);
            patience = (patience * 2).min(self.timeout);
            loop {
                match timeout_at(again, under_way.next()).await {
                    Ok(Some(Ok(value))) => return Ok(Reply { value, repeated: sent > 1 }),
                    Ok(Some(Err(error))) if error.is_final() => {
                        // Without its etcd lease, the other copies of the request have no effect either.
                        let sure = under_way.is_empty() || error.kind == Kind::NoLease;
                        let error = if sure { error } else { CallError { kind: Kind::Unanswered, ..error } };
                        return Err(worse(failed.filter(|_| error.kind != Kind::NoLease), error));
                    }
                    Ok(Some(Err(error))) => failed = Some(worse(failed.take(), error)),
                    Ok(None) => break,
                    Err(_elapsed) => {
                        self.doubt();
                        break;
                    }
                }
            }
            if under_way.is_empty() {
                sleep_until((Instant::now() + pause).min(deadline)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            if Instant::now() >= deadline {
                let late = CallError::late(self.timeout);
                return Err(if under_way.is_empty() { failed.unwrap_or(late) } else { late });
            }
        }
    }
}

fn lost() -> CallError {
    CallError::new(Kind::Unsent, "the connection is lost, and the client is reconnecting")
}

/// The error of a call of which two copies failed: it may have been carried out if either may.
fn worse(one: Option<CallError>, other: CallError) -> CallError {
    match one {
        Some(one) if matches!(one.kind, Kind::Unanswered | Kind::Broken) => one,
        _ => other,
    }
}

/// Makes a request that fails when its connection is given up.
async fn on<T>(conn: Arc<Conn>, request: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    let answer = tokio::select! {
        biased;
        answer = request => answer,
        () = conn.ended() => Err(CallError::new(Kind::Unanswered, "the connection broke")),
    };
    if answer.as_ref().is_err_and(|error| error.kind == Kind::Broken) {
        conn.give_up();
    }
    answer
}

async fn keep_open(
    config: Arc<EtcdConfig>,
    mut conn: Arc<Conn>,
    publish: watch::Sender<Option<Arc<Conn>>>,
    doubted: Arc<Notify>,
) {
    let mut backoff = Backoff::default();
    loop {
        let next = tokio::select! {
            () = conn.ended() => None,
            () = doubted.notified() => match dispel_or_replace(&config, &conn).await {
                Doubt::Dispelled => continue,
                Doubt::Confirmed(next) => Some(next),
            },
        };
        tracing::warn!(store = %config.address(), endpoint = %conn.endpoint, "the connection to etcd is lost");
        publish.send_replace(None);
        conn.give_up();
        conn = match next {
            Some(next) => next,
            None => reopen(&config, &mut backoff).await,
        };
        tracing::info!(store = %config.address(), endpoint = %conn.endpoint, "connected to etcd again");
        publish.send_replace(Some(conn.clone()));
    }
}

enum Doubt {
    Dispelled,
    Confirmed(Arc<Conn>),
}

/// Probes the connection and all servers; the first answer decides. While there is no leader, no server answers.
async fn dispel_or_replace(config: &EtcdConfig, conn: &Arc<Conn>) -> Doubt {
    let dispelled = async {
        match conn.probe().await {
            Ok(()) => Doubt::Dispelled,
            Err(_) => std::future::pending().await,
        }
    };
    let replaced = async {
        sleep(HEAD_START).await;
        let mut backoff = Backoff::default();
        Doubt::Confirmed(reopen(config, &mut backoff).await)
    };
    tokio::select! {
        biased;
        doubt = dispelled => doubt,
        doubt = replaced => doubt,
    }
}
