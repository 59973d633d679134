//! The sessions of a client on the server.

use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions, PgSslMode};
use sqlx::{Acquire as _, AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::PostgresConfig;
use crate::error::{CallError, Kind};
use crate::statement;

/// Opens the sessions of a client.
#[derive(Debug)]
pub(crate) struct Sessions {
    options: PgConnectOptions,
    /// Whether a pooler reassigns them after each transaction, so that their settings do not last.
    is_pooled: bool,
    connections: u32,
    pub(crate) connect_timeout: Duration,
    /// Sessions whose request timed out, or was dropped before its answer. The server may still work on it.
    abandoned: Mutex<Vec<SessionId>>,
    /// The start time of the server of the last session, in µs.
    server: AtomicI64,
}

/// The identity of a session: its process, and its start time in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionId {
    process: i32,
    since: i64,
}

/// A session, used for one request at a time.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) conn: PgConnection,
    id: Option<SessionId>,
}

/// A session that also listens.
#[derive(Debug)]
pub(crate) struct ListeningSession {
    /// `None` during the drop.
    listener: Option<PgListener>,
    /// The runtime on which sqlx closes it.
    runtime: Handle,
    id: Option<SessionId>,
    /// As in [`Sessions::server`].
    server: i64,
}

impl Sessions {
    pub(crate) fn new(config: &PostgresConfig, options: PgConnectOptions, is_pooled: bool) -> Self {
        Self {
            options,
            is_pooled,
            connections: config.connections,
            connect_timeout: config.settings.connect_timeout,
            abandoned: Mutex::default(),
            server: AtomicI64::new(0),
        }
    }

    pub(crate) fn connections(&self) -> u32 {
        self.connections
    }

    pub(crate) fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    /// Opens a session, and ends the abandoned ones.
    pub(crate) async fn open(&self, limit: Duration) -> Result<Session, CallError> {
        let open = async {
            let mut conn = self.connect().await?;
            let id = if self.is_pooled { None } else { Some(self.set_up(&mut conn, None).await?.0) };
            Ok(Session { conn, id })
        };
        self.within(limit, open).await
    }

    /// Opens a session that listens on a channel.
    pub(crate) async fn open_listening(&self, channel: &str, limit: Duration) -> Result<ListeningSession, CallError> {
        let open = async {
            let mut session = self.connect_listener(limit).await?;
            self.listen(&mut session, channel).await?;
            Ok(session)
        };
        self.within(limit, open).await
    }

    /// Opens a connection, without TLS if `sslmode=prefer` allows that and the handshake fails, as libpq does.
    async fn connect(&self) -> sqlx::Result<PgConnection> {
        let outcome = self.options.connect().await;
        let plain = outcome.as_ref().err().and_then(|error| self.without_tls(error));
        match plain {
            Some(options) => options.connect().await,
            None => outcome,
        }
    }

    /// The options without TLS, if they allow that after this error.
    fn without_tls(&self, error: &sqlx::Error) -> Option<PgConnectOptions> {
        let has_failed = match error {
            sqlx::Error::Tls(_) => true,
            // As sqlx reports alerts of the server, and messages that rustls rejects.
            sqlx::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
            _ => false,
        };
        if !has_failed || !matches!(self.options.get_ssl_mode(), PgSslMode::Prefer) {
            return None;
        }
        tracing::warn!(%error, "TLS could not be set up: with sslmode=prefer, this connection is not encrypted");
        Some(self.options.clone().ssl_mode(PgSslMode::Disable))
    }

    /// Connects, and makes no settings.
    pub(crate) async fn connect_listener(&self, limit: Duration) -> sqlx::Result<ListeningSession> {
        let outcome = open_listener(&self.options, limit).await;
        let plain = outcome.as_ref().err().and_then(|error| self.without_tls(error));
        let listener = match plain {
            Some(options) => open_listener(&options, limit).await?,
            None => outcome?,
        };
        Ok(ListeningSession { listener: Some(listener), runtime: Handle::current(), id: None, server: 0 })
    }

    pub(crate) async fn listen(&self, session: &mut ListeningSession, channel: &str) -> sqlx::Result<()> {
        let conn = session.conn().await?;
        let (id, server) = self.set_up(conn, Some(channel)).await?;
        (session.id, session.server) = (Some(id), server);
        Ok(())
    }

    /// Makes the settings of a session, listens, and ends the abandoned sessions, all in one message.
    async fn set_up(&self, conn: &mut PgConnection, channel: Option<&str>) -> sqlx::Result<(SessionId, i64)> {
        const START: &str = "(extract(epoch FROM a.backend_start) * 1000000)::bigint";
        const SERVER: &str = "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint";
        let mut text = statement::session_settings();
        let abandoned = self.abandoned().clone();
        for SessionId { process, since } in &abandoned {
            let _infallible = write!(
                text,
                "SELECT 0, 0, 0 FROM pg_stat_get_activity({process}) AS a WHERE {START} = {since} AND pg_terminate_backend(a.pid);"
            );
        }
        if let Some(channel) = channel {
            let _infallible = write!(text, "LISTEN \"{channel}\";");
        }
        let _infallible =
            write!(text, "SELECT a.pid, {START}, {SERVER} FROM pg_stat_get_activity(pg_backend_pid()) AS a");
        let rows = conn.fetch_all(sqlx::raw_sql(AssertSqlSafe(text))).await?;
        let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
        let (id, server) = (SessionId { process: row.try_get(0)?, since: row.try_get(1)? }, row.try_get(2)?);
        self.abandoned().retain(|session| !abandoned.contains(session));
        self.server.store(server, Ordering::Relaxed);
        Ok((id, server))
    }

    async fn within<T>(&self, limit: Duration, open: impl Future<Output = sqlx::Result<T>>) -> Result<T, CallError> {
        match timeout(limit, open).await {
            Ok(opened) => opened.map_err(|error| CallError::connecting(error, self.connections)),
            Err(_elapsed) => Err(CallError::new(
                Kind::Unsent,
                format!("no connection within {limit:?}: the server or the network is stuck or slow"),
            )),
        }
    }

    /// Notes a session whose request timed out or was dropped: the next session that opens ends it.
    pub(crate) fn abandon(&self, id: Option<SessionId>) {
        self.abandoned().extend(id);
    }

    fn abandoned(&self) -> std::sync::MutexGuard<'_, Vec<SessionId>> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open_listener(options: &PgConnectOptions, limit: Duration) -> sqlx::Result<PgListener> {
    // The pool retries while the server accepts no connection, and does not report the reason in the end.
    let pool = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let pool = pool.acquire_timeout(limit.mul_f32(0.8)).test_before_acquire(false);
    match PgListener::connect_with(&pool.connect_lazy_with(options.clone())).await {
        Ok(mut listener) => {
            listener.eager_reconnect(false);
            Ok(listener)
        }
        Err(sqlx::Error::PoolTimedOut) => {
            options.connect().await?;
            Err(sqlx::Error::PoolTimedOut)
        }
        Err(error) => Err(error),
    }
}

impl Session {
    pub(crate) fn id(&self) -> Option<SessionId> {
        self.id
    }
}

impl ListeningSession {
    pub(crate) fn id(&self) -> Option<SessionId> {
        self.id
    }

    pub(crate) fn listener(&mut self) -> &mut PgListener {
        self.listener.as_mut().expect("it is only taken by the drop")
    }

    /// The connection, for a request.
    pub(crate) async fn conn(&mut self) -> sqlx::Result<&mut PgConnection> {
        self.listener().acquire().await
    }

    /// Whether new sessions are on another server now, as after a failover.
    pub(crate) fn is_elsewhere(&self, sessions: &Sessions) -> bool {
        let latest = sessions.server.load(Ordering::Relaxed);
        latest != 0 && self.server != latest
    }
}

impl Drop for ListeningSession {
    /// sqlx spawns a task here, so this enters the runtime: a client may be dropped outside of it.
    fn drop(&mut self) {
        let _runtime = self.runtime.enter();
        drop(self.listener.take());
    }
}
