//! Implements [`Backend`] by SQL statements.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, EventStream, Events, Extended, Extension, Finding,
    ListFilter, Page, Release, Released, ResourceName, Snapshot, Ttl,
};
use tokio::task::JoinSet;

use crate::answers::Answer;
use crate::change::Changes;
use crate::connect::Connected;
use crate::error::CallError;
use crate::events::Inbox;
use crate::link::Link;
use crate::operation::{MIN_TTL, Operation};
use crate::statement::{Statement, Value};
use crate::sweep::{self, Sweeper};
use crate::{ConnectError, PostgresConfig, connect, schema};

/// Leases in a Postgres database.
///
/// The backend belongs to the tokio runtime that it was connected on. Dropping it closes its connections; held leases
/// live on until they expire.
pub struct PostgresBackend {
    pub(crate) config: Arc<PostgresConfig>,
    pub(crate) store: Arc<str>,
    pub(crate) link: Arc<Link>,
    pub(crate) capabilities: Capabilities,
    pub(crate) statements: Statements,
    pub(crate) inbox: Inbox,
    pub(crate) events: Events,
    pub(crate) changes: Arc<Changes>,
    pub(crate) _sweeping: JoinSet<()>,
}

#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) inspect: Statement,
    pub(crate) list: Statement,
}

impl PostgresBackend {
    /// Connects to the server, and checks that it can serve and has rlock's tables. Creates missing tables if the role
    /// may, unless [`create`](PostgresConfig::without_creating) is off.
    ///
    /// After that, the backend reopens lost connections when it needs them; requests fail meanwhile.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if no server answers in time, or if the server refuses the user or the database, is older than
    /// Postgres 13, is a replica, or lacks rlock's tables and the role may not create them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened. The tables are created in one transaction: all of them or none.
    pub fn connect(config: PostgresConfig) -> Pin<Box<dyn Future<Output = Result<Self, ConnectError>> + Send>> {
        Box::pin(Self::open(config)) // otherwise the crate of each caller compiles the driver
    }

    async fn open(config: PostgresConfig) -> Result<Self, ConnectError> {
        let store = Arc::<str>::from(config.address());
        let connected = connect::connect(&config).await.map_err(|error| error.into_connect_error(&store))?;
        let Connected { link, inbox, events } = connected;
        let statement = |text| Statement::new(text, &config.settings.schema);
        let statements = Statements {
            inspect: statement(include_str!("sql/inspect.sql")),
            list: statement(include_str!("sql/list.sql")),
        };
        let changes = Changes::new(&config, store.clone(), link.clone(), inbox.name.clone());
        let sweeping = sweep::sweep(Sweeper::new(&config, link.clone(), changes.clone()));
        Ok(Self {
            config: Arc::new(config),
            store,
            link,
            capabilities: capabilities(),
            statements,
            inbox,
            events,
            changes,
            _sweeping: JoinSet::from_iter([sweeping]),
        })
    }

    /// Creates rlock's tables in the [schema](PostgresConfig::from_url) of `config`, if they are missing.
    ///
    /// Many processes may call it at once, and newer versions may call it again. It needs a role that may create a
    /// schema in the database. `connect` only needs USAGE on the schema and SELECT, INSERT, UPDATE and DELETE on its
    /// tables. Only a superuser or the owner of the database can create tables that other roles use.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if no server answers in time, the server refuses, or an untrusted role could run code in the
    /// tables. Trusted are the role of `config`, superusers, and the owner of the database with the members of that
    /// role.
    ///
    /// # Cancel safety
    ///
    /// The tables are created in one transaction: all of them or none.
    pub fn ensure_schema(
        config: &PostgresConfig,
    ) -> Pin<Box<dyn Future<Output = Result<(), ConnectError>> + Send + '_>> {
        Box::pin(connect::make_tables(config))
    }

    /// The SQL that [`ensure_schema`](Self::ensure_schema) runs, for an administrator to run instead.
    pub fn schema_sql(config: &PostgresConfig) -> String {
        schema::sql(&config.settings.schema)
    }

    pub(crate) async fn change(&self, operations: &[Operation<'_>]) -> Vec<Result<Answer, CallError>> {
        self.changes.run(&self.config.settings.namespace, operations).await
    }

    /// Whether notifications reach this client.
    pub(crate) fn listens(&self) -> bool {
        self.inbox.listens()
    }

    pub(crate) fn namespace(&self) -> Value {
        Value::text(self.config.settings.namespace.as_str())
    }

    pub(crate) fn failed(&self, error: CallError, operation: &'static str) -> BackendError {
        error.into_backend_error(operation, &self.store)
    }
}

#[async_trait]
impl Backend for PostgresBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        self.acquire_all(claims).await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        self.extend_all(extensions).await
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        self.release_all(releases).await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        self.look(resource).await.map_err(|error| self.failed(error, "inspect"))
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        self.page(filter).await.map_err(|error| self.failed(error, "list"))
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        self.break_all(resource).await.map_err(|error| self.failed(error, "break"))
    }

    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        self.findings().await.map_err(|error| self.failed(error, "examine"))
    }

    fn events(&self) -> EventStream {
        self.events.stream()
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        backend: "postgres",
        min_ttl: Ttl::new(MIN_TTL).expect("a TTL that can be used"),
        max_ttl: Ttl::MAX,
        ttl_step: Duration::from_millis(1),
        expiry_lag: Duration::ZERO,
        queue: true,
        push: true,
        rest: true,
        data: true,
    }
}

impl fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBackend").field("config", &self.config).finish_non_exhaustive()
    }
}
