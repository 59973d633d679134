//! The contract of core, kept by scripts.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, EventStream, Events, Extended, Extension, Failure, Finding,
    IfBusy, LeaseId, LeaseKey, ListFilter, Page, Release, Released, ResourceName, Snapshot, Ttl,
};

use tokio::sync::Notify;

use crate::answers::{self, Answer, Unreadable};
use crate::conn::{Args, Conn, Reply};
use crate::error::code_of;
use crate::inbox::Inbox;
use crate::keys::{Keys, inbox_channel};
use crate::link::Link;
use crate::scripts::{self, Script};
use crate::{ConnectError, RedisConfig, rights};

/// How many entries go into one script call. The server does nothing else meanwhile, so it bounds what a batch
/// adds to the waiting of others, to about a millisecond.
const CHUNK: usize = 256;
const OLDEST: (u64, u64) = (6, 2);

/// Leases in a Redis server.
///
/// It belongs to the tokio runtime that it was connected on. Dropping it closes its connections; leases that are
/// held then live on until they expire.
pub struct RedisBackend {
    config: Arc<RedisConfig>,
    pub(crate) store: Arc<str>,
    pub(crate) keys: Keys,
    /// The random name under which the scripts tell this client of its leases.
    inbox: String,
    link: Link,
    events: Events,
    _inbox: Inbox,
}

impl RedisBackend {
    /// Connects to the server, checks that it can serve, and loads the scripts.
    ///
    /// From then on lost connections are opened again in the background; requests fail meanwhile.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if no server answers in time, or if the server
    ///
    /// - refuses the user or the database,
    /// - is older than Redis 6.2, or a node of a Redis Cluster,
    /// - denies the user one of the [rights](RedisConfig::ACL_RULES) that rlock needs, or
    /// - withholds its uptime, which a [`restart_grace`](RedisConfig::restart_grace) other than zero needs.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub fn connect(config: RedisConfig) -> Pin<Box<dyn Future<Output = Result<Self, ConnectError>> + Send>> {
        Box::pin(Self::open(config)) // or the crate of each caller compiles the driver
    }

    async fn open(config: RedisConfig) -> Result<Self, ConnectError> {
        let store = Arc::<str>::from(config.address());
        let config = Arc::new(config);
        let failed = |error: crate::error::CallError| error.into_connect_error(&store);
        let (conn, driver) = Conn::open(&config).await.map_err(failed)?;
        check_version(&conn, &store)?;
        conn.grants_from().await.map_err(failed)?;
        scripts::load_all(&conn).await.map_err(failed)?;
        let keys = Keys::new(&config.namespace);
        rights::try_all(&conn, &keys).await.map_err(failed)?;
        let inbox = LeaseId::random().to_hex();
        let events = Events::default();
        let doubted = Arc::new(Notify::new());
        let subscription = Inbox::open(config.clone(), inbox_channel(&inbox), events.clone(), doubted.clone());
        let subscription = subscription.await.map_err(failed)?;
        let link = Link::new(config.clone(), conn, driver, events.clone(), doubted);
        Ok(Self { config, store, keys, inbox, link, events, _inbox: subscription })
    }

    /// Runs a script over a batch, in parts that are all under way together, and reads its answers.
    async fn batch<E: Sync, T>(
        &self,
        operation: &'static str,
        script: &Script,
        entries: &[E],
        key: impl Fn(&E) -> &LeaseKey + Sync,
        arguments: impl Fn(&mut Args, &[E]) + Sync,
        read: impl Fn(&Answer, &E) -> Result<Result<T, BackendError>, Unreadable> + Sync,
    ) -> Vec<Result<T, BackendError>> {
        let (key, arguments, read) = (&key, &arguments, &read);
        let run = |part| self.part(operation, script, part, key, arguments, read);
        if (1..=CHUNK).contains(&entries.len()) {
            return run(entries).await;
        }
        join_all(entries.chunks(CHUNK).map(run)).await.into_iter().flatten().collect()
    }

    async fn part<E, T>(
        &self,
        operation: &'static str,
        script: &Script,
        entries: &[E],
        key: impl Fn(&E) -> &LeaseKey,
        arguments: impl Fn(&mut Args, &[E]),
        read: impl Fn(&Answer, &E) -> Result<Result<T, BackendError>, Unreadable>,
    ) -> Vec<Result<T, BackendError>> {
        let build = |args: &mut Args| {
            args.number(entries.len() as u64);
            entries.iter().for_each(|entry| args.text(self.keys.resource(&key(entry).resource)));
            arguments(args, entries);
        };
        let read = |(answer, entry)| read(answer, entry).unwrap_or_else(|error| Err(self.failed(error, operation)));
        match self.answers(operation, script, entries.len(), build).await {
            Ok(answers) => answers.iter().zip(entries).map(read).collect(),
            Err(error) => entries.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    pub(crate) async fn answers(
        &self,
        operation: &'static str,
        script: &Script,
        expected: usize,
        build: impl Fn(&mut Args),
    ) -> Result<Vec<Answer>, BackendError> {
        let reply = self.call(operation, script, build).await?;
        answers::entries(reply, expected).map_err(|error| self.failed(error, operation))
    }

    async fn call(
        &self,
        operation: &'static str,
        script: &Script,
        build: impl Fn(&mut Args),
    ) -> Result<Reply, BackendError> {
        let call = async {
            let conn = self.link.conn()?;
            if std::ptr::eq(script, &scripts::ACQUIRE) {
                conn.may_grant().await?;
            }
            script.call(&conn, build).await
        };
        call.await.map_err(|error| {
            if error.is_refusal_with("READONLY") {
                self.leave_replica();
            }
            error.into_backend_error(operation, &self.store)
        })
    }

    /// One script call on one resource.
    async fn call_on(
        &self,
        operation: &'static str,
        script: &Script,
        resource: &ResourceName,
    ) -> Result<Reply, BackendError> {
        let build = |args: &mut Args| {
            args.fixed("1");
            args.text(self.keys.resource(resource));
        };
        self.call(operation, script, build).await
    }

    pub(crate) async fn command(
        &self,
        operation: &'static str,
        name: &'static str,
        args: Args,
    ) -> Result<Reply, BackendError> {
        let call = async { self.link.conn()?.command(name, args).await };
        call.await.map_err(|error| error.into_backend_error(operation, &self.store))
    }

    pub(crate) fn failed(&self, error: Unreadable, operation: &'static str) -> BackendError {
        if matches!(&error, Unreadable::Failed(text) if code_of(text) == "READONLY") {
            self.leave_replica();
        }
        error.into_failure(operation, &self.store)
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.config.timeout
    }

    pub(crate) fn restart_grace(&self) -> Duration {
        self.config.restart_grace
    }

    /// After a failover the name of the primary may lead to another server; only a new connection finds out.
    fn leave_replica(&self) {
        if let Ok(conn) = self.link.conn() {
            conn.give_up();
        }
    }
}

fn check_version(conn: &Conn, store: &Arc<str>) -> Result<(), ConnectError> {
    match conn.version() {
        Some(version) if version < OLDEST => {
            let ((major, minor), (needs_major, needs_minor)) = (version, OLDEST);
            let reason =
                format!("the server is version {major}.{minor}: {needs_major}.{needs_minor} or newer is needed");
            Err(ConnectError::Rejected(Failure::new("connect", store.clone(), reason)))
        }
        // Who may not use INFO is not told the version; the scripts say what is missing then.
        _ => Ok(()),
    }
}

#[async_trait]
impl Backend for RedisBackend {
    fn capabilities(&self) -> &Capabilities {
        const STEP: Duration = Duration::from_millis(1);
        const CAN: Capabilities = Capabilities {
            backend: "redis",
            min_ttl: Ttl::MIN,
            max_ttl: Ttl::MAX,
            ttl_step: STEP,
            expiry_lag: Duration::ZERO,
            queue: true,
            push: true,
            rest: false,
            data: false,
        };
        &CAN
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        let arguments = |args: &mut Args, part: &[Claim]| {
            args.text(self.inbox.as_str());
            for (i, claim) in part.iter().enumerate() {
                args.text(claim.key.id.to_hex());
                args.number(claim.share.weight().into());
                args.number(claim.share.capacity().into());
                args.number(claim.ttl.as_millis());
                args.fixed(if claim.if_busy == IfBusy::Queue { "1" } else { "0" });
                if i > 0 && Arc::ptr_eq(&part[i - 1].owner, &claim.owner) {
                    args.fixed("");
                } else {
                    args.text(claim.owner.to_record());
                }
            }
        };
        self.batch("acquire", &scripts::ACQUIRE, claims, |claim| &claim.key, arguments, answers::acquired).await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let arguments = |args: &mut Args, part: &[Extension]| {
            for extension in part {
                args.text(extension.key.id.to_hex());
                args.number(extension.ttl.as_millis());
            }
        };
        let read = |answer: &Answer, _: &Extension| answers::extended(answer).map(Ok);
        self.batch("extend", &scripts::EXTEND, extensions, |extension| &extension.key, arguments, read).await
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        let arguments =
            |args: &mut Args, part: &[Release]| part.iter().for_each(|release| args.text(release.key.id.to_hex()));
        let read = |answer: &Answer, _: &Release| answers::released(answer).map(Ok);
        self.batch("release", &scripts::RELEASE, releases, |release| &release.key, arguments, read).await
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        let reply = self.call_on("inspect", &scripts::INSPECT, resource).await?;
        answers::snapshot(&reply, resource).map_err(|error| self.failed(error, "inspect"))
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        self.page(filter).await
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        let reply = self.call_on("break", &scripts::BREAK, resource).await?;
        match reply {
            Reply::Number(count) => Ok(u64::try_from(count).unwrap_or_default()),
            other => Err(self.failed(answers::foreign(&other), "break")),
        }
    }

    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        self.findings().await
    }

    fn events(&self) -> EventStream {
        self.events.stream()
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("config", &self.config).finish_non_exhaustive()
    }
}
