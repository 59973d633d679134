//! The connections that statements go over.
//!
//! sqlx's pool pings each connection that is given back to it. That costs a round trip for each statement, and does not
//! help where the next statement has a time limit.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rlock_core::ServerClock;
use sqlx::postgres::{PgConnection, PgRow};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::PostgresConfig;
use crate::config::Schema;
use crate::error::{CallError, Kind};
use crate::listener::{Listener, Turn};
use crate::session::{Session, SessionId, Sessions};
use crate::statement::{Statement, Value};

/// The longest idle time of a connection that is reused. A connection that a firewall has dropped shows itself by a
/// request that times out.
const LONGEST_IDLE: Duration = Duration::from_secs(60);
/// The initial time limit for an answer, and for a connection: a request that met a dead connection has time for
/// another one. It doubles for as long as nothing answers, so that requests do not pile up on a frozen server.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bounded number of connections, opened on demand. One of them listens, if notifications arrive.
#[derive(Debug)]
pub(crate) struct Link {
    sessions: Arc<Sessions>,
    listener: Option<Arc<Listener>>,
    schema: Schema,
    timeout: Duration,
    most: u32,
    /// One slot for each connection, including the one that listens.
    slots: Semaphore,
    /// The most recently used is last.
    idle: Mutex<Vec<Idle>>,
    /// The number of consecutive timeouts.
    silences: AtomicU32,
    clock: ServerClock,
}

#[derive(Debug)]
struct Idle {
    session: Session,
    since: Instant,
}

/// A statement under way. Its session is given up if its future is dropped before the answer: the server may still work
/// on it.
struct UnderWay<'a> {
    link: &'a Link,
    session: Option<SessionId>,
    sent: Instant,
    is_over: bool,
}

impl Link {
    pub(crate) fn new(
        config: &PostgresConfig,
        sessions: Arc<Sessions>,
        listener: Option<Arc<Listener>>,
        clock: ServerClock,
    ) -> Arc<Self> {
        let most = config.connections;
        Arc::new(Self {
            sessions,
            listener,
            schema: config.settings.schema.clone(),
            timeout: config.settings.timeout,
            most,
            slots: Semaphore::new(most as usize),
            idle: Mutex::default(),
            silences: AtomicU32::new(0),
            clock,
        })
    }

    /// Runs a statement in its own transaction.
    ///
    /// # Cancel safety
    ///
    /// A statement whose future is dropped may be carried out. The next session that opens ends its session.
    pub(crate) async fn call(&self, statement: &Statement, values: Vec<Value>) -> Result<Vec<PgRow>, CallError> {
        self.call_within(self.timeout, statement, values).await
    }

    async fn call_within(
        &self,
        longest: Duration,
        statement: &Statement,
        values: Vec<Value>,
    ) -> Result<Vec<PgRow>, CallError> {
        let busy = |_| {
            CallError::new(Kind::Unsent, format!("all {} connections are busy for longer than {longest:?}", self.most))
        };
        let _slot = timeout(longest, self.slots.acquire()).await.map_err(busy)?;
        if let Some(session) = self.take() {
            return self.call_in(session, longest, statement, values).await;
        }
        if let Some(turn) = self.listener.as_ref().and_then(|listener| listener.try_take()) {
            return self.call_listening(turn, longest, statement, values).await;
        }
        let session = self.open(longest).await?;
        self.call_in(session, longest, statement, values).await
    }

    /// Runs a statement that changes nothing. Without a connection or an answer in time it is sent again, until the
    /// timeout.
    pub(crate) async fn read(&self, statement: &Statement, values: Vec<Value>) -> Result<Vec<PgRow>, CallError> {
        let begun = Instant::now();
        loop {
            let sent = Instant::now();
            let left = self.timeout.saturating_sub(begun.elapsed());
            let outcome = self.call_within(left, statement, values.clone()).await;
            let may_be_answered = |error: &CallError| matches!(error.kind, Kind::Late | Kind::Unsent);
            let is_silent = outcome.as_ref().is_err_and(may_be_answered) && sent.elapsed() >= PATIENCE;
            if !is_silent || begun.elapsed() + PATIENCE > self.timeout {
                return outcome;
            }
        }
    }

    async fn call_in(
        &self,
        mut session: Session,
        longest: Duration,
        statement: &Statement,
        values: Vec<Value>,
    ) -> Result<Vec<PgRow>, CallError> {
        let id = session.id();
        let outcome = self.run(&mut session.conn, id, longest, statement, values).await;
        match &outcome {
            Err(error) if error.is_late() => self.sessions.abandon(id),
            // The other connections have probably failed too.
            Err(error) if error.ends_connection() => self.doubt_all(),
            _ => self.idle().push(Idle { session, since: Instant::now() }),
        }
        outcome
    }

    async fn call_listening(
        &self,
        turn: Turn<'_>,
        longest: Duration,
        statement: &Statement,
        values: Vec<Value>,
    ) -> Result<Vec<PgRow>, CallError> {
        let (limit, begun) = (self.limit_of_connecting(longest), Instant::now());
        let opened = turn.session(limit).await;
        let mut listening = opened.inspect_err(|_| self.note_silence(begun.elapsed() >= limit))?;
        // It returns only once it has answered. The caller may drop this future before.
        let mut session = listening.take().expect("a turn has a session");
        let id = session.id();
        let conn = session.conn().await.map_err(|error| CallError::connecting(error, self.most))?;
        let outcome = self.run(conn, id, longest, statement, values).await;
        match &outcome {
            Err(error) if error.is_late() || error.ends_connection() => {
                if error.is_late() {
                    self.sessions.abandon(id);
                }
                self.idle().clear();
            }
            _ => *listening = Some(session),
        }
        outcome
    }

    async fn run(
        &self,
        conn: &mut PgConnection,
        session: Option<SessionId>,
        longest: Duration,
        statement: &Statement,
        values: Vec<Value>,
    ) -> Result<Vec<PgRow>, CallError> {
        let patience = self.patience().min(longest);
        let sent = Instant::now();
        let deadline = self.clock.time_at(sent + patience);
        let values: Vec<_> = values.into_iter().map(|value| value.by(deadline)).collect();
        let run = async {
            if self.sessions.is_pooled() {
                statement.run_anywhere(conn, &values).await
            } else {
                statement.run_prepared(conn, values).await
            }
        };
        let under_way = UnderWay { link: self, session, sent, is_over: false };
        let outcome = timeout(patience, run).await;
        under_way.end();
        let Ok(outcome) = outcome else {
            self.note_silence(true);
            return Err(CallError::late(patience));
        };
        self.silences.store(0, Ordering::Relaxed);
        if let Ok(rows) = &outcome
            && let Some(said) = statement.clock_in(rows)
        {
            self.clock.note(sent, Instant::now(), said);
        }
        outcome.map_err(|error| CallError::executing(error, &self.schema))
    }

    async fn open(&self, longest: Duration) -> Result<Session, CallError> {
        let (limit, begun) = (self.limit_of_connecting(longest), Instant::now());
        self.sessions.open(limit).await.inspect_err(|_| self.note_silence(begun.elapsed() >= limit))
    }

    fn patience(&self) -> Duration {
        PATIENCE * (1 << self.silences.load(Ordering::Relaxed).min(8))
    }

    fn limit_of_connecting(&self, longest: Duration) -> Duration {
        self.patience().min(self.sessions.connect_timeout).min(longest)
    }

    fn note_silence(&self, is_silent: bool) {
        if is_silent {
            self.silences.fetch_add(1, Ordering::Relaxed);
            self.doubt_all();
        }
    }

    fn doubt_all(&self) {
        self.idle().clear();
        self.listener.iter().for_each(|listener| listener.doubt());
    }

    fn take(&self) -> Option<Session> {
        let Idle { session, since } = self.idle().pop()?;
        if since.elapsed() < LONGEST_IDLE {
            return Some(session);
        }
        // The others are even older.
        self.idle().clear();
        None
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay<'_> {
    /// The statement was answered or has timed out.
    fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.link.sessions.abandon(self.session);
            self.link.note_silence(self.sent.elapsed() >= PATIENCE);
        }
    }
}
