//! The cost of Postgres without locks: the fewest statements that could do the work of locks, over the same client
//! library.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use rlock_core::{BackendError, Baseline};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::backend::PostgresBackend;
use crate::error::CallError;
use crate::events::Inbox;
use crate::session::{ListeningSession, Sessions};
use crate::statement::{Statement, Value};
use crate::{ConnectError, PostgresConfig};

/// The size of a lock's record, in bytes.
const LENGTH: usize = 100;

/// Changes the row of one resource, as a lock does. $1 namespace, $2 name, $3 the value to write
const UPDATE: &str = "UPDATE {schema}.locks SET last = {now}, owner = $3 WHERE namespace = $1 AND name = $2 \
                      RETURNING last";
const UPDATE_AND_NOTIFY: &str = "WITH updated AS (UPDATE {schema}.locks SET last = {now}, owner = $3 \
                                 WHERE namespace = $1 AND name = $2 RETURNING last) \
                                 SELECT pg_notify($4, '') FROM updated";
/// Inserts a row without a lease, so it is not a lock. $1 namespace, $2 name
const INSERT: &str = "INSERT INTO {schema}.locks \
                      (namespace, name, last, capacity, weight, token, since, expires, shared, waiting, head, tail, ended_at) \
                      VALUES ($1, $2, {now}, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0) ON CONFLICT DO NOTHING";
const NOTHING: &str = "SELECT 1";
const READ: &str = "SELECT last FROM {schema}.locks WHERE namespace = $1 AND name = $2";
const COUNT: &str = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, \
                     (pg_current_wal_lsn() - '0/0')::bigint";
/// The tables of locks and waiters, with their indexes.
const SIZE: &str = "SELECT (pg_total_relation_size('{schema}.locks'::regclass) \
                    + pg_total_relation_size('{schema}.leases'::regclass))::bigint";
/// Deletes the next resources of a namespace with their leases, and returns the last name among them. $1 namespace,
/// $2 the last name before, $3 the number of resources
const DELETE: &str = "WITH batch AS MATERIALIZED (SELECT name FROM {schema}.locks WHERE namespace = $1 AND name > $2 \
                      ORDER BY name LIMIT $3::bigint), ended AS (DELETE FROM {schema}.leases AS l USING batch AS b \
                      WHERE l.namespace = $1 AND l.name = b.name), \
                      deleted AS (DELETE FROM {schema}.locks AS l USING batch AS b \
                      WHERE l.namespace = $1 AND l.name = b.name) SELECT max(name) FROM batch";
/// The number of resources that one statement deletes: few enough for a slow disk to delete them before the request times
/// out.
const BATCH: i64 = 1_000;
/// The row that pushes are for.
const PUSH: &str = "bare/push";

/// The cost of a Postgres database without locks. It writes to rlock's own table, in rows that are not locks.
pub struct PostgresBaseline {
    config: PostgresConfig,
    store: Arc<str>,
    /// Owns the connections.
    backend: PostgresBackend,
    channel: String,
    /// `None` where notifications do not arrive.
    listener: Option<Mutex<ListeningSession>>,
    update: Statement,
    update_and_notify: Statement,
    insert: Statement,
    nothing: Statement,
    read: Statement,
    count: Statement,
    size: Statement,
    delete: Statement,
}

impl PostgresBaseline {
    /// Connects to the server, with as many connections as [`PostgresBackend`](crate::PostgresBackend) has.
    ///
    /// # Errors
    ///
    /// As for [`PostgresBackend::connect`](crate::PostgresBackend::connect).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub async fn connect(config: PostgresConfig) -> Result<Self, ConnectError> {
        let backend = PostgresBackend::connect(config.clone()).await?;
        let (store, channel) = (backend.store.clone(), Inbox::channel());
        let mut listener = None;
        if let Some(options) = config.listen_options().filter(|_| backend.listens()) {
            let sessions = Sessions::new(&config, options, false);
            let opened = sessions.open_listening(&channel, config.settings.connect_timeout).await;
            listener = Some(Mutex::new(opened.map_err(|error| error.into_connect_error(&store))?));
        }
        let statement = |text| Statement::new(text, &config.settings.schema);
        Ok(Self {
            store,
            backend,
            channel,
            listener,
            update: statement(UPDATE),
            update_and_notify: statement(UPDATE_AND_NOTIFY),
            insert: statement(INSERT),
            nothing: statement(NOTHING),
            read: statement(READ),
            count: statement(COUNT),
            size: statement(SIZE),
            delete: statement(DELETE),
            config,
        })
    }

    async fn call(
        &self,
        operation: &'static str,
        statement: &Statement,
        values: Vec<Value>,
    ) -> Result<Vec<PgRow>, BackendError> {
        let called = self.backend.link.call(statement, values).await;
        called.map_err(|error| error.into_backend_error(operation, &self.store))
    }

    /// Changes a row, and inserts it if it is missing.
    async fn write(&self, statement: &Statement, name: &str, channel: Option<&str>) -> Result<(), BackendError> {
        let row = || [self.config.settings.namespace.as_str(), name].map(Value::text);
        let values = || {
            let text = ["x".repeat(LENGTH)].map(Value::text);
            row().into_iter().chain(text).chain(channel.map(Value::text)).collect()
        };
        while self.call("update", statement, values()).await?.is_empty() {
            self.call("insert", &self.insert, row().into()).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Baseline for PostgresBaseline {
    async fn round_trip(&self) -> Result<(), BackendError> {
        self.call("select", &self.nothing, Vec::new()).await.map(drop)
    }

    async fn pair(&self, name: &str) -> Result<(), BackendError> {
        let name = format!("bare/{name}");
        self.write(&self.update, &name, None).await?;
        self.write(&self.update, &name, None).await
    }

    async fn write_and_push(&self) -> Result<(), BackendError> {
        let Some(listener) = &self.listener else {
            self.write(&self.update, PUSH, None).await?;
            let row = [self.config.settings.namespace.as_str(), PUSH].map(Value::text);
            return self.call("select", &self.read, row.into()).await.map(drop);
        };
        let mut session = listener.lock().await;
        self.write(&self.update_and_notify, PUSH, Some(&self.channel)).await?;
        let limit = self.config.settings.timeout;
        let heard = match timeout(limit, session.listener().recv()).await {
            Ok(heard) => heard.map(drop).map_err(|error| CallError::connecting(error, 1)),
            Err(_elapsed) => Err(CallError::late(limit)),
        };
        heard.map_err(|error| error.into_backend_error("listen", &self.store))
    }

    async fn counters(&self) -> Result<Vec<(&'static str, u64)>, BackendError> {
        let rows = self.call("count", &self.count, Vec::new()).await?;
        let unreadable = |error| CallError::unreadable(error).into_backend_error("count", &self.store);
        let Some(row) = rows.first() else { return Ok(Vec::new()) };
        let column = |at: usize| row.try_get::<i64, _>(at).map(|count| u64::try_from(count).unwrap_or_default());
        let transactions = column(0).map_err(unreadable)?;
        let bytes = column(1).map_err(unreadable)?;
        Ok(vec![("writing transactions", transactions), ("bytes of log", bytes)])
    }

    async fn size(&self) -> Result<Option<u64>, BackendError> {
        let rows = self.call("measure", &self.size, Vec::new()).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let size = row.try_get::<i64, _>(0).map_err(CallError::unreadable);
        let size = size.map_err(|error| error.into_backend_error("measure", &self.store))?;
        Ok(u64::try_from(size).ok())
    }

    async fn clean_up(&self) -> Result<(), BackendError> {
        const OPERATION: &str = "clean up";
        let unreadable = |error| CallError::unreadable(error).into_backend_error(OPERATION, &self.store);
        let mut last = String::new();
        loop {
            let [namespace, after] = [self.config.settings.namespace.as_str(), &last].map(Value::text);
            let rows = self.call(OPERATION, &self.delete, vec![namespace, after, Value::Number(BATCH)]).await?;
            let name = rows.first().map(|row| row.try_get::<Option<String>, _>(0)).transpose().map_err(unreadable)?;
            let Some(name) = name.flatten() else { return Ok(()) };
            last = name;
        }
    }
}

impl fmt::Debug for PostgresBaseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBaseline").field("config", &self.config).finish_non_exhaustive()
    }
}
