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
use crate::error::{CallError, code_of};
use crate::inbox::Inbox;
use crate::keys::{Keys, inbox_channel};
use crate::link::Link;
use crate::scripts::{self, Script};
use crate::{ConnectError, RedisConfig, rights};

/// How many entries go into one script call. The server does nothing else meanwhile, so it bounds what a batch
/// adds to the waiting of others, to about a millisecond.
const CHUNK: usize = 256;
const OLDEST: (u64, u64) = (6, 2);
/// The answer of a replica. After a failover the name of the primary may lead to another server; only a new connection finds
/// out.
const READONLY: &str = "READONLY";

/// How requests of a verb are made.
struct Verb<'a, E> {
    operation: &'static str,
    script: &'static Script,
    key: fn(&E) -> &LeaseKey,
    arguments: &'a (dyn Fn(&mut Args, &[E]) + Sync),
    /// Cuts a reply into the answers to so many entries.
    split: fn(&Reply, usize) -> Result<Vec<Answer>, Unreadable>,
}

/// Leases in a Redis server.
///
/// It belongs to the tokio runtime that it was connected on. Dropping it closes its connections; leases that are
/// held then live on until they expire.
pub struct RedisBackend {
    config: Arc<RedisConfig>,
    pub(crate) store: Arc<str>,
    pub(crate) keys: Keys,
    /// The random name under which the scripts tell this client of its leases.
    inbox: LeaseId,
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
        let failed = |error: CallError| error.into_connect_error(&store);
        let (conn, driver) = Conn::open(&config).await.map_err(failed)?;
        check_version(&conn, &store)?;
        conn.grants_from().await.map_err(failed)?;
        scripts::load_all(&conn).await.map_err(failed)?;
        let keys = Keys::new(&config.namespace);
        rights::try_all(&conn, &keys).await.map_err(failed)?;
        let inbox = LeaseId::random();
        let events = Events::default();
        let doubted = Arc::new(Notify::new());
        let subscription = Inbox::open(config.clone(), inbox_channel(inbox), events.clone(), doubted.clone());
        let subscription = subscription.await.map_err(failed)?;
        let link = Link::new(config.clone(), conn, driver, events.clone(), doubted);
        Ok(Self { config, store, keys, inbox, link, events, _inbox: subscription })
    }

    /// Runs a script over a batch, in parts that are all under way together, and reads its answers.
    async fn batch<E: Sync, T>(
        &self,
        verb: &Verb<'_, E>,
        entries: &[E],
        read: impl Fn(&Answer, &E) -> Result<Result<T, BackendError>, Unreadable> + Sync,
    ) -> Vec<Result<T, BackendError>> {
        let run = |part| self.part(verb, part, &read);
        if (1..=CHUNK).contains(&entries.len()) {
            return run(entries).await;
        }
        join_all(entries.chunks(CHUNK).map(run)).await.into_iter().flatten().collect()
    }

    async fn part<E, T>(
        &self,
        verb: &Verb<'_, E>,
        entries: &[E],
        read: &(impl Fn(&Answer, &E) -> Result<Result<T, BackendError>, Unreadable> + Sync),
    ) -> Vec<Result<T, BackendError>> {
        let build = |args: &mut Args| {
            self.add_keys(args, entries.iter().map(|entry| &(verb.key)(entry).resource));
            (verb.arguments)(args, entries);
        };
        let read_one =
            |(answer, entry)| read(answer, entry).unwrap_or_else(|error| Err(self.failed(error, verb.operation)));
        match self.answers(verb.operation, verb.script, build, |reply| (verb.split)(reply, entries.len())).await {
            Ok(answers) => answers.iter().zip(entries).map(read_one).collect(),
            Err(error) => entries.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    pub(crate) async fn answers(
        &self,
        operation: &'static str,
        script: &Script,
        build: impl Fn(&mut Args),
        read: impl Fn(&Reply) -> Result<Vec<Answer>, Unreadable>,
    ) -> Result<Vec<Answer>, BackendError> {
        let (conn, reply) = self.call_over(operation, script, build).await?;
        let answers = read(&reply).map_err(|error| self.failed(error, operation))?;
        let is_replicas = |answer: &Answer| matches!(answer, Answer::Failed(text) if code_of(text) == READONLY);
        if answers.iter().any(is_replicas) {
            conn.give_up();
        }
        Ok(answers)
    }

    async fn call(
        &self,
        operation: &'static str,
        script: &Script,
        build: impl Fn(&mut Args),
    ) -> Result<Reply, BackendError> {
        self.call_over(operation, script, build).await.map(|(_, reply)| reply)
    }

    /// Runs a script, and returns the connection that answered as well.
    async fn call_over(
        &self,
        operation: &'static str,
        script: &Script,
        build: impl Fn(&mut Args),
    ) -> Result<(Arc<Conn>, Reply), BackendError> {
        let call = async {
            let conn = self.link.conn()?;
            if std::ptr::eq(script, &scripts::ACQUIRE) {
                conn.may_grant().await?;
            }
            let reply = script.call(&conn, build).await;
            if reply.as_ref().is_err_and(|error| error.is_refusal_with(READONLY)) {
                conn.give_up();
            }
            Ok((conn, reply?))
        };
        call.await.map_err(|error: CallError| error.into_backend_error(operation, &self.store))
    }

    /// One script call on one resource.
    async fn call_on(
        &self,
        operation: &'static str,
        script: &Script,
        resource: &ResourceName,
    ) -> Result<Reply, BackendError> {
        self.call(operation, script, |args| self.add_keys(args, std::iter::once(resource))).await
    }

    /// Adds the number of keys, and both keys of resources.
    pub(crate) fn add_keys<'a>(&self, args: &mut Args, resources: impl ExactSizeIterator<Item = &'a ResourceName>) {
        args.number(2 * resources.len() as u64);
        for resource in resources {
            args.text(self.keys.resource(resource));
            args.text(self.keys.set(resource));
        }
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
        error.into_failure(operation, &self.store)
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.config.timeout
    }

    pub(crate) fn restart_grace(&self) -> Duration {
        self.config.restart_grace
    }
}

/// An id as the scripts have it.
fn raw(id: LeaseId) -> [u8; 16] {
    id.as_u128().to_be_bytes()
}

/// A duration as the scripts have it: milliseconds, rounded up.
#[allow(clippy::cast_precision_loss, reason = "TTLs are far below 2^53 ms")]
fn millis(duration: Duration) -> [u8; 8] {
    (duration.as_nanos().div_ceil(1_000_000) as f64).to_le_bytes()
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
            rest: true,
            data: true,
        };
        &CAN
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        let arguments = |args: &mut Args, part: &[Claim]| {
            let mut packed = Vec::with_capacity(33 * part.len());
            for claim in part {
                packed.extend(raw(claim.key.id));
                packed.extend(claim.share.weight().to_le_bytes());
                packed.extend(claim.share.capacity().to_le_bytes());
                packed.extend(millis(claim.ttl.get()));
                packed.push((claim.if_busy == IfBusy::Queue).into());
            }
            args.bytes(packed);
            args.bytes(raw(self.inbox).to_vec());
            let is_alike = |pair: &[Claim]| Arc::ptr_eq(&pair[0].owner, &pair[1].owner) && pair[0].data == pair[1].data;
            let shown = if part.windows(2).all(is_alike) { &part[..1] } else { part };
            shown.iter().for_each(|claim| args.bytes(answers::write_shown(claim)));
        };
        let verb = Verb {
            operation: "acquire",
            script: &scripts::ACQUIRE,
            key: |claim: &Claim| &claim.key,
            arguments: &arguments,
            split: answers::entries,
        };
        self.batch(&verb, claims, answers::acquired).await
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let arguments = |args: &mut Args, part: &[Extension]| {
            let packed = part.iter().flat_map(|extension| {
                let (id, ttl) = (raw(extension.key.id), millis(extension.ttl.get()));
                id.into_iter().chain(ttl)
            });
            args.bytes(packed.collect());
        };
        let verb = Verb {
            operation: "extend",
            script: &scripts::EXTEND,
            key: |extension: &Extension| &extension.key,
            arguments: &arguments,
            split: answers::entries,
        };
        self.batch(&verb, extensions, |answer, _| answers::extended(answer).map(Ok)).await
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        let arguments = |args: &mut Args, part: &[Release]| {
            let packed = part.iter().flat_map(|release| raw(release.key.id).into_iter().chain(millis(release.rest)));
            args.bytes(packed.collect());
        };
        let verb = Verb {
            operation: "release",
            script: &scripts::RELEASE,
            key: |release: &Release| &release.key,
            arguments: &arguments,
            split: answers::letters,
        };
        self.batch(&verb, releases, |answer, _| answers::released(answer).map(Ok)).await
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
