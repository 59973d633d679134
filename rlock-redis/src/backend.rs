//! The contract of core, kept by scripts.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::future::join_all;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, EventStream, Events, Extended, Extension, Failure, Finding,
    IfBusy, LeaseId, LeaseKey, ListFilter, Page, Release, Released, ResourceName, Snapshot, Ttl,
};
use tokio::sync::Notify;

use crate::answers::{self, Answer, Unreadable};
use crate::confirm::Confirmer;
use crate::error::{CallError, code_of};
use crate::inbox::Inbox;
use crate::keys::{Keys, inbox_channel};
use crate::route::{Answered, Purpose, READONLY, Route};
use crate::scripts::{self, Script, millis, raw};
use crate::wire::{Args, Reply};
use crate::{ConnectError, RedisConfig};

/// How many entries go into one script call. The server does nothing else meanwhile, so it bounds what a batch
/// adds to the waiting of others, to about a millisecond.
const CHUNK: usize = 256;

/// How requests of a verb are made.
struct Verb<'a, E> {
    operation: &'static str,
    purpose: Purpose,
    script: &'static Script,
    key: fn(&E) -> &LeaseKey,
    arguments: &'a (dyn Fn(&mut Args, &[&E]) + Sync),
    /// Cuts a reply into the answers to so many entries.
    split: fn(&Reply, usize) -> Result<Vec<Answer>, Unreadable>,
}

/// Leases in Redis: in one server, in the primary that sentinels name, or in a cluster.
///
/// It belongs to the tokio runtime that it was connected on. Dropping it closes its connections; leases that are
/// held then live on until they expire.
pub struct RedisBackend {
    config: Arc<RedisConfig>,
    pub(crate) store: Arc<str>,
    pub(crate) keys: Keys,
    /// The random name under which the scripts tell this client of its leases.
    inbox: LeaseId,
    pub(crate) route: Arc<Route>,
    confirmer: Option<Confirmer>,
    events: Events,
    _inbox: Inbox,
}

impl RedisBackend {
    /// Connects to the servers, checks that they can serve, and loads the scripts.
    ///
    /// From then on lost connections are opened again in the background; requests fail meanwhile.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if no server answers in time, or if the server
    ///
    /// - refuses the user or the database,
    /// - is older than Redis 6.2,
    /// - is a node of a Redis Cluster or a sentinel, and the scheme of the URL is another,
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
        let keys = Keys::new(&config.namespace);
        let inbox = LeaseId::random();
        let events = Events::default();
        let doubted = Arc::new(Notify::new());
        let route = Route::open(config.clone(), keys.clone(), &events, &doubted).await.map_err(failed)?;
        let subscription = Inbox::open(route.listener(), inbox_channel(inbox), events.clone(), doubted);
        let subscription = subscription.await.map_err(failed)?;
        let route = Arc::new(route);
        let confirmer =
            config.replicas.map(|wanted| Confirmer::new(wanted, route.clone(), keys.clone(), events.clone()));
        Ok(Self { config, store, keys, inbox, route, confirmer, events, _inbox: subscription })
    }

    /// Runs a script over a batch, in parts that are all under way together, and reads its answers.
    async fn batch<E: Sync, T>(
        &self,
        verb: &Verb<'_, E>,
        entries: &[E],
        read: impl Fn(&Answer, &E) -> Result<Result<T, BackendError>, Unreadable> + Sync,
    ) -> Vec<Result<T, BackendError>> {
        let read = |answer: Result<Answer, BackendError>, entry: &E| {
            read(&answer?, entry).unwrap_or_else(|error| Err(self.failed(error, verb.operation)))
        };
        if !self.route.is_by_bucket() && (1..=CHUNK).contains(&entries.len()) {
            let answers = self.part(verb, 0, &entries.iter().collect::<Vec<_>>()).await;
            return answers.into_iter().zip(entries).map(|(answer, entry)| read(answer, entry)).collect();
        }
        let bucket = |entry| if self.route.is_by_bucket() { bucket(verb, entry) } else { 0 };
        let mut sorted: Vec<(u16, usize)> = (0..entries.len()).map(|at| (bucket(&entries[at]), at)).collect();
        sorted.sort_unstable();
        let parts = sorted.chunk_by(|a, b| a.0 == b.0).flat_map(|same| same.chunks(CHUNK)).map(|part| {
            let bucket = part[0].0;
            let entries: Vec<&E> = part.iter().map(|(_, at)| &entries[*at]).collect();
            async move { self.part(verb, bucket, &entries).await }
        });
        let answers = join_all(parts).await.into_iter().flatten();
        let mut in_order: Vec<_> = sorted.iter().map(|(_, at)| *at).zip(answers).collect();
        in_order.sort_unstable_by_key(|(at, _)| *at);
        in_order.into_iter().zip(entries).map(|((_, answer), entry)| read(answer, entry)).collect()
    }

    /// Runs a script over entries of one bucket.
    async fn part<E: Sync>(
        &self,
        verb: &Verb<'_, E>,
        bucket: u16,
        entries: &[&E],
    ) -> Vec<Result<Answer, BackendError>> {
        let build = |args: &mut Args| {
            self.add_keys(args, entries.iter().map(|entry| &(verb.key)(entry).resource));
            (verb.arguments)(args, entries);
        };
        match self.run(verb, bucket, build, entries).await {
            // The slot moves to another server, and has one of the two keys of a resource in each.
            Err(error) if self.route.is_by_bucket() && error.is_refusal_with("TRYAGAIN") => {
                let one = async |entry: &&E| {
                    let build = |args: &mut Args| {
                        args.fixed("1");
                        args.text(self.keys.resource(&(verb.key)(entry).resource));
                        (verb.arguments)(args, &[entry]);
                    };
                    self.run(verb, bucket, build, &[entry])
                        .await
                        .map_err(|error| self.call_failed(error, verb.operation))
                };
                let answers = join_all(entries.iter().map(one)).await;
                answers.into_iter().map(|answer| answer?.pop().expect("one entry has one answer")).collect()
            }
            Ok(answers) => answers,
            Err(error) => {
                let error = self.call_failed(error, verb.operation);
                entries.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    async fn run<E>(
        &self,
        verb: &Verb<'_, E>,
        bucket: u16,
        build: impl Fn(&mut Args),
        entries: &[&E],
    ) -> Result<Vec<Result<Answer, BackendError>>, CallError> {
        let answered = self.route.run(bucket, verb.purpose, verb.script, build).await?;
        let answers = match (verb.split)(&answered.reply, entries.len()) {
            Ok(answers) => answers,
            Err(error) => {
                let error = self.failed(error, verb.operation);
                return Ok(entries.iter().map(|_| Err(error.clone())).collect());
            }
        };
        leave_replica(&answered, &answers);
        if verb.purpose == Purpose::Claim && answers.iter().any(Answer::is_held) && self.confirmer.is_some() {
            return Ok(self.confirmed(verb, bucket, &answered, answers, entries).await);
        }
        Ok(answers.into_iter().map(Ok).collect())
    }

    /// Gives back what was granted to claims unless replicas have it.
    async fn confirmed<E>(
        &self,
        verb: &Verb<'_, E>,
        bucket: u16,
        answered: &Answered,
        answers: Vec<Answer>,
        entries: &[&E],
    ) -> Vec<Result<Answer, BackendError>> {
        let Some(wanted) = self.config.replicas else { return answers.into_iter().map(Ok).collect() };
        let found = match answered.primary.confirmed(self.keys.confirmed(bucket)).await {
            Ok(found) if found >= wanted.count.into() => return answers.into_iter().map(Ok).collect(),
            found => found,
        };
        let granted = answers.iter().zip(entries).filter(|(answer, _)| answer.is_held());
        let releases: Vec<_> =
            granted.map(|(_, entry)| Release { key: (verb.key)(entry).clone(), rest: Duration::ZERO }).collect();
        let mut released = match &found {
            Ok(_) => self.release(&releases).await.into_iter(),
            Err(_) => Vec::new().into_iter(), // the claim is made again, or given back
        };
        let reason = match found {
            Ok(found) => format!(
                "{found} of {} replicas confirmed the grant within {:?} (wait_replicas, wait_timeout), so it was given back",
                wanted.count, wanted.within
            ),
            Err(error) => error.to_string(),
        };
        let mut give_back = |answer: Answer| {
            if !answer.is_held() {
                return Ok(answer);
            }
            let failure = Failure::new(verb.operation, self.store.clone(), reason.clone());
            match released.next() {
                Some(Ok(_)) => Err(BackendError::NotApplied(failure)),
                _ => Err(BackendError::Unknown(failure)),
            }
        };
        answers.into_iter().map(&mut give_back).collect()
    }

    /// Runs a script on one bucket, outside of the verbs.
    pub(crate) async fn answers(
        &self,
        operation: &'static str,
        bucket: u16,
        script: &Script,
        build: impl Fn(&mut Args),
        read: impl Fn(&Reply) -> Result<Vec<Answer>, Unreadable>,
    ) -> Result<Vec<Answer>, BackendError> {
        let run = self.route.run(bucket, Purpose::Other, script, build).await;
        let answered = run.map_err(|error| self.call_failed(error, operation))?;
        let answers = read(&answered.reply).map_err(|error| self.failed(error, operation))?;
        leave_replica(&answered, &answers);
        Ok(answers)
    }

    /// One script call on one resource.
    async fn call_on(
        &self,
        operation: &'static str,
        script: &Script,
        resource: &ResourceName,
    ) -> Result<Reply, BackendError> {
        let build = |args: &mut Args| self.add_keys(args, std::iter::once(resource));
        let run = self.route.run(Keys::bucket(resource), Purpose::Other, script, build).await;
        run.map(|answered| answered.reply).map_err(|error| self.call_failed(error, operation))
    }

    /// Adds the number of keys, and both keys of resources.
    pub(crate) fn add_keys<'a>(
        &self,
        args: &mut Args,
        resources: impl ExactSizeIterator<Item = &'a ResourceName> + Clone,
    ) {
        args.reserve(2 * resources.len() + 4);
        args.number(2 * resources.len() as u64);
        let length = resources.clone().map(|resource| self.keys.length_of_both(resource)).sum();
        let mut buffer = BytesMut::with_capacity(length);
        for resource in resources {
            self.keys.both(resource, &mut buffer, |buffer| args.piece(buffer));
        }
    }

    pub(crate) fn call_failed(&self, error: CallError, operation: &'static str) -> BackendError {
        error.into_backend_error(operation, &self.store)
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

fn bucket<E>(verb: &Verb<'_, E>, entry: &E) -> u16 {
    Keys::bucket(&(verb.key)(entry).resource)
}

/// Gives up a connection that leads to a replica.
fn leave_replica(answered: &Answered, answers: &[Answer]) {
    let is_replicas = |answer: &Answer| matches!(answer, Answer::Failed(text) if code_of(text) == READONLY);
    if answers.iter().any(is_replicas) {
        answered.conn.give_up();
    }
}

fn extension_arguments(args: &mut Args, part: &[&Extension]) {
    let mut packed = Vec::with_capacity(24 * part.len());
    for extension in part {
        packed.extend(raw(extension.key.id));
        packed.extend(millis(extension.ttl.get()));
    }
    args.bytes(packed);
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
        let arguments = |args: &mut Args, part: &[&Claim]| {
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
            let is_alike =
                |pair: &[&Claim]| Arc::ptr_eq(&pair[0].owner, &pair[1].owner) && pair[0].data == pair[1].data;
            let shown = if part.windows(2).all(is_alike) { &part[..1] } else { part };
            shown.iter().for_each(|claim| args.bytes(answers::write_shown(claim)));
        };
        let verb = Verb {
            operation: "acquire",
            purpose: Purpose::Claim,
            script: &scripts::ACQUIRE,
            key: |claim: &Claim| &claim.key,
            arguments: &arguments,
            split: answers::entries,
        };
        let acquired = self.batch(&verb, claims, answers::acquired).await;
        if let Some(confirmer) = &self.confirmer {
            for (acquired, claim) in acquired.iter().zip(claims) {
                match acquired {
                    Ok(Acquired::Queued(_)) | Err(BackendError::Unknown(_)) => confirmer.expect(claim.key.id),
                    Ok(Acquired::Held(_)) => confirmer.forget(claim.key.id),
                    _ => {}
                }
            }
        }
        acquired
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let verb = Verb {
            operation: "extend",
            purpose: Purpose::Other,
            script: &scripts::EXTEND,
            key: |extension: &Extension| &extension.key,
            arguments: &extension_arguments,
            split: answers::entries,
        };
        let mut extended = self.batch(&verb, extensions, |answer, _| answers::extended(answer).map(Ok)).await;
        if let Some(confirmer) = &self.confirmer {
            for (extended, extension) in extended.iter_mut().zip(extensions) {
                if let Ok(Extended::Held(grant)) = extended {
                    *extended = Ok(confirmer.extended(&extension.key, *grant));
                }
            }
        }
        extended
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        let arguments = |args: &mut Args, part: &[&Release]| {
            let packed = part.iter().flat_map(|release| scripts::packed_release(release.key.id, release.rest));
            args.bytes(packed.collect());
        };
        let verb = Verb {
            operation: "release",
            purpose: Purpose::Other,
            script: &scripts::RELEASE,
            key: |release: &Release| &release.key,
            arguments: &arguments,
            split: answers::letters,
        };
        let released = self.batch(&verb, releases, |answer, _| answers::released(answer).map(Ok)).await;
        if let Some(confirmer) = &self.confirmer {
            let done = released.iter().zip(releases).filter(|(released, _)| released.is_ok());
            done.for_each(|(_, release)| confirmer.forget(release.key.id));
        }
        released
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
