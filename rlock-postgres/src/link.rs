//! The connections that statements go over.
//!
//! sqlx has a pool, which asks each connection whether it is well whenever one is given back to it. That is a round
//! trip for each statement, and of no use where the next statement is sent with a limit to how long it may take.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::PostgresConfig;
use crate::config::Schema;
use crate::error::{CallError, Kind};
use crate::statement::{self, Statement, Value};

/// How long a connection may have been idle and be used again. One that a firewall has forgotten is found out by a
/// request that gets no answer.
const LONGEST_IDLE: Duration = Duration::from_secs(60);
/// How long an answer may take at first, and connecting. Whoever was unlucky with a dead connection has time for another
/// one then; and as long as nothing answers, it doubles, so that what a frozen server has to do when it goes on does not
/// pile up.
const PATIENCE: Duration = Duration::from_secs(1);

/// A few connections, opened when they are needed.
#[derive(Debug)]
pub(crate) struct Link {
    options: PgConnectOptions,
    schema: Schema,
    is_session_ours: bool,
    timeout: Duration,
    connect_timeout: Duration,
    most: u32,
    slots: Semaphore,
    /// The last used on top.
    idle: Mutex<Vec<Idle>>,
    /// How many times in a row nothing has answered.
    silences: AtomicU32,
}

#[derive(Debug)]
struct Idle {
    conn: PgConnection,
    since: Instant,
}

impl Link {
    pub(crate) fn new(config: &PostgresConfig, is_session_ours: bool) -> Arc<Self> {
        let most = config.connections;
        Arc::new(Self {
            options: config.connect_options(),
            schema: config.terms.schema.clone(),
            is_session_ours,
            timeout: config.terms.timeout,
            connect_timeout: config.terms.connect_timeout,
            most,
            slots: Semaphore::new(most as usize),
            idle: Mutex::default(),
            silences: AtomicU32::new(0),
        })
    }

    /// Runs a statement, in a transaction of its own.
    ///
    /// # Cancel safety
    ///
    /// A statement whose future is dropped may be carried out.
    pub(crate) async fn call(&self, statement: &Statement, values: Vec<Value>) -> Result<Vec<PgRow>, CallError> {
        let busy = |_| {
            CallError::new(
                Kind::Unsent,
                format!("all {} connections are busy for longer than {:?}", self.most, self.timeout),
            )
        };
        let _slot = timeout(self.timeout, self.slots.acquire()).await.map_err(busy)?;
        let mut conn = match self.take() {
            Some(conn) => conn,
            None => self.open().await?,
        };
        let run = async {
            if self.is_session_ours {
                statement.run_prepared(&mut conn, values).await
            } else {
                statement.run_anywhere(&mut conn, &values).await
            }
        };
        let patience = self.patience().min(self.timeout);
        let Ok(outcome) = timeout(patience, run).await else {
            self.is_silent();
            return Err(CallError::late(patience));
        };
        self.silences.store(0, Ordering::Relaxed);
        match outcome {
            Ok(rows) => {
                self.give_back(conn);
                Ok(rows)
            }
            Err(error) => {
                let error = CallError::executing(error, &self.schema);
                if error.ends_connection() {
                    // What has happened to it has happened to the others.
                    self.idle().clear();
                } else {
                    self.give_back(conn);
                }
                Err(error)
            }
        }
    }

    /// Opens the first connection, however slow the server is within the timeout.
    pub(crate) async fn open_first(&self) -> Result<PgConnection, CallError> {
        self.open_within(self.connect_timeout).await
    }

    /// Opens a connection.
    pub(crate) async fn open(&self) -> Result<PgConnection, CallError> {
        self.open_within(self.patience().min(self.connect_timeout)).await
    }

    async fn open_within(&self, patience: Duration) -> Result<PgConnection, CallError> {
        let open = async {
            let mut conn = self.options.connect().await?;
            if self.is_session_ours {
                statement::settle(&mut conn).await?;
            }
            Ok(conn)
        };
        match timeout(patience, open).await {
            Ok(opened) => opened.map_err(|error| CallError::connecting(error, self.most)),
            Err(_elapsed) => {
                self.is_silent();
                Err(CallError::new(
                    Kind::Unsent,
                    format!("no connection within {patience:?}: the server or the network is stuck or slow"),
                ))
            }
        }
    }

    fn patience(&self) -> Duration {
        PATIENCE * (1 << self.silences.load(Ordering::Relaxed).min(8))
    }

    fn is_silent(&self) {
        self.silences.fetch_add(1, Ordering::Relaxed);
        self.idle().clear();
    }

    fn take(&self) -> Option<PgConnection> {
        let Idle { conn, since } = self.idle().pop()?;
        if since.elapsed() < LONGEST_IDLE {
            return Some(conn);
        }
        // Those below it are older yet.
        self.idle().clear();
        None
    }

    /// Keeps a connection for the next statement.
    pub(crate) fn give_back(&self, conn: PgConnection) {
        self.idle().push(Idle { conn, since: Instant::now() });
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
