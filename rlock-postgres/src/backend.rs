//! The contract of core, kept by statements.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use rlock_core::{
    Acquired, Backend, BackendError, Capabilities, Claim, EventStream, Events, Extended, Extension, Finding, IfBusy,
    LeaseKey, ListFilter, Page, Release, Released, ResourceName, Snapshot, Ttl,
};
use sqlx::postgres::PgRow;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::answers::{self, Answer, Answers, Claimed, LATE, Letter};
use crate::config::Schema;
use crate::error::{CallError, Kind};
use crate::guesses::Guesses;
use crate::inbox::{Inbox, Standing};
use crate::link::Link;
use crate::operation::{Operation, Verb};
use crate::statement::{self, Statement, Value};
use crate::{ConnectError, PostgresConfig, schema, sweep};

/// How many operations go into one statement. Each looks through the others of its statement, and all their rows are
/// locked until it is done.
const CHUNK: usize = 64;
/// An answer takes as long as the server's disk, now and then.
const MIN_TTL: Duration = Duration::from_millis(100);
const MOMENT: Duration = Duration::from_millis(200);
const OLDEST: u32 = 130_000;

/// Leases in a Postgres database.
///
/// It belongs to the tokio runtime that it was connected on. Dropping it closes its connections; leases that are held
/// then live on until they expire.
pub struct PostgresBackend {
    config: Arc<PostgresConfig>,
    pub(crate) store: Arc<str>,
    link: Arc<Link>,
    capabilities: Capabilities,
    statements: Statements,
    /// By somebody else, when a claim comes.
    is_taken: Guesses,
    /// By several, when a lease is released.
    is_shared: Guesses,
    inbox: Inbox,
    events: Events,
    _sweeping: JoinSet<()>,
}

#[derive(Debug)]
struct Statements {
    acquire: Statement,
    change: Statement,
    extend: Statement,
    inspect: Statement,
    list: Statement,
    release: Statement,
    tell: Statement,
}

impl PostgresBackend {
    /// Connects to the server, and checks that it can serve and has rlock's tables.
    ///
    /// From then on lost connections are opened again when they are needed; requests fail meanwhile.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if no server answers in time, it refuses the user or the database, is older than Postgres 13, or
    /// has no tables of rlock's; [`ensure_schema`](Self::ensure_schema) makes them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub fn connect(config: PostgresConfig) -> Pin<Box<dyn Future<Output = Result<Self, ConnectError>> + Send>> {
        Box::pin(Self::open(config)) // or the crate of each caller compiles the driver
    }

    async fn open(config: PostgresConfig) -> Result<Self, ConnectError> {
        let store = Arc::<str>::from(config.address());
        let failed = |error: CallError| error.into_connect_error(&store);
        let anyone = Link::new(&config, false);
        let mut conn = anyone.open_first().await.map_err(failed)?;
        if let Some(version) = conn.server_version_num().filter(|&version| version < OLDEST) {
            let reason = format!("the server is version {}: 13 or newer is needed", version / 10_000);
            return Err(failed(CallError::new(Kind::Refused, reason)));
        }
        schema::check(&mut conn, &config.terms.schema).await.map_err(failed)?;
        let mut is_shared = true;
        if config.listens_where_it_asks() {
            let mut other = anyone.open_first().await.map_err(failed)?;
            let shared = statement::are_sessions_shared(&mut conn, &mut other).await;
            is_shared = shared.map_err(|error| failed(CallError::executing(error, &config.terms.schema)))?;
            anyone.give_back(other);
        }
        anyone.give_back(conn);
        let statement = |text| Statement::new(text, &config.terms.schema);
        let statements = Statements {
            acquire: statement(include_str!("sql/acquire.sql")),
            change: statement(include_str!("sql/change.sql")),
            extend: statement(include_str!("sql/extend.sql")),
            inspect: statement(include_str!("sql/inspect.sql")),
            list: statement(include_str!("sql/list.sql")),
            release: statement(include_str!("sql/release.sql")),
            tell: statement(include_str!("sql/tell.sql")),
        };
        let events = Events::default();
        let mut listening = None;
        let options = config.listen_options().filter(|_| !is_shared || !config.listens_where_it_asks());
        if let Some(options) = options {
            let tell = &statements.tell;
            let listen = Inbox::listen(options, &anyone, tell, config.terms.connect_timeout, events.clone());
            listening = listen.await.map_err(failed)?;
        }
        if listening.is_none() && config.is_to_listen() {
            tracing::warn!(
                %store,
                "notifications do not arrive, as behind a pooler in transaction mode: waiters look for what they are told; \
                 give the URL of the server itself as listen_url to have them told at once"
            );
        }
        let mut link = anyone;
        if listening.is_some() && !is_shared {
            link = Link::new(&config, true);
            let conn = link.open_first().await.map_err(failed)?;
            link.give_back(conn);
        }
        let inbox = listening
            .unwrap_or_else(|| Inbox::read(link.clone(), statement(include_str!("sql/collect.sql")), events.clone()));
        let sweeping = sweep::sweep(
            link.clone(),
            statement(include_str!("sql/turn.sql")),
            statement(include_str!("sql/sweep.sql")),
            config.terms.keep_unused,
        );
        let capabilities = Capabilities {
            backend: "postgres",
            min_ttl: Ttl::new(MIN_TTL).expect("a TTL that can be used"),
            max_ttl: Ttl::MAX,
            ttl_step: Duration::from_millis(1),
            expiry_lag: Duration::ZERO,
            queue: true,
            push: true,
            rest: false,
            data: false,
        };
        Ok(Self {
            config: Arc::new(config),
            store,
            link,
            capabilities,
            statements,
            is_taken: Guesses::new(),
            is_shared: Guesses::new(),
            inbox,
            events,
            _sweeping: JoinSet::from_iter([sweeping]),
        })
    }

    /// Makes rlock's tables in the [schema](PostgresConfig::from_url) of `config`, if they are not there yet.
    ///
    /// It may be called by many processes at once, and again by newer versions. It needs a role that may create a schema
    /// in the database; `connect` needs one with no more than USAGE on the schema and SELECT, INSERT, UPDATE and DELETE on
    /// its tables. Only a superuser or the owner of the database can make tables that other roles use.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if no server answers in time, it refuses, or an untrusted role could run code in the tables: one
    /// other than the role of `config`, a superuser, and the owner of the database with its members.
    ///
    /// # Cancel safety
    ///
    /// The tables are made in one transaction: all of them or none.
    pub fn ensure_schema(
        config: &PostgresConfig,
    ) -> Pin<Box<dyn Future<Output = Result<(), ConnectError>> + Send + '_>> {
        Box::pin(Self::make_tables(config))
    }

    async fn make_tables(config: &PostgresConfig) -> Result<(), ConnectError> {
        let store = Arc::<str>::from(config.address());
        let failed = |error: CallError| error.into_connect_error(&store);
        let mut conn = Link::new(config, false).open_first().await.map_err(failed)?;
        schema::ensure(&mut conn, &config.terms.schema).await.map_err(failed)
    }

    /// The SQL that [`ensure_schema`](Self::ensure_schema) runs, for an administrator to run in its place.
    pub fn schema_sql(config: &PostgresConfig) -> String {
        schema::sql(&config.terms.schema)
    }

    /// Whether the short statement is likely to do: it knows a resource that is free, and one that is in the way of all.
    fn is_worth_asking_first(&self, claim: &Claim) -> bool {
        claim.if_busy == IfBusy::Refuse && claim.share.is_exclusive() || !self.is_taken.is_likely(&claim.key.resource)
    }

    /// Claims a lease of a resource that is free, in one short statement. `None` if more has to be done.
    async fn acquire_free(&self, claim: &Claim) -> Result<Option<Acquired>, CallError> {
        let values = vec![
            self.namespace(),
            Value::text(claim.key.resource.as_str()),
            Value::Text(answers::id(claim.key.id)),
            Value::Number(claim.share.weight().into()),
            Value::Number(claim.share.capacity().into()),
            Value::Number(micros(claim.ttl)),
            Value::text(&self.inbox.name),
            Value::Text(claim.owner.to_record()),
            self.grace(),
        ];
        let rows = self.link.call(&self.statements.acquire, values).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        if let Some(grant) = answers::held(row).map_err(CallError::unreadable)? {
            return Ok(Some(Acquired::Held(grant)));
        }
        let is_busy = answers::is_busy(row).map_err(CallError::unreadable)?;
        Ok((is_busy && claim.if_busy == IfBusy::Refuse).then_some(Acquired::Busy))
    }

    /// Extends a lease of a resource where none has expired, in one short statement. `None` if one has, or it is gone.
    async fn extend_settled(&self, extension: &Extension) -> Result<Option<Extended>, CallError> {
        let mut values = self.lease(&extension.key);
        values.push(Value::Number(micros(extension.ttl)));
        let rows = self.link.call(&self.statements.extend, values).await?;
        rows.first().map(answers::extended).transpose().map_err(CallError::unreadable)
    }

    /// Releases a lease that has its resource to itself, in one short statement. `None` if it has not, or is gone.
    async fn release_alone(&self, lease: &LeaseKey) -> Result<Option<Released>, CallError> {
        let rows = self.link.call(&self.statements.release, self.lease(lease)).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let next = answers::letter_to_next(row).map_err(CallError::unreadable)?;
        if next.is_none() {
            self.is_taken.note(&lease.resource, false);
        }
        self.tell(next.as_slice()).await;
        Ok(Some(Released::Released))
    }

    fn lease(&self, lease: &LeaseKey) -> Vec<Value> {
        vec![self.namespace(), Value::text(lease.resource.as_str()), Value::Text(answers::id(lease.id))]
    }

    fn grace(&self) -> Value {
        Value::Number(i64::try_from(self.config.terms.restart_grace.as_micros()).expect("an hour at most"))
    }

    fn namespace(&self) -> Value {
        Value::text(self.config.terms.namespace.as_str())
    }

    /// Runs operations, in parts that are all under way together.
    async fn change(&self, operations: &[Operation<'_>]) -> Vec<Result<Answer, CallError>> {
        let part = async |part: &[Operation<'_>]| match self.change_part(part).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            // Somebody has locked one of the rows; the others need not wait for that.
            Err(error) if part.len() > 1 && error.is_locked() => {
                let alone = async |operation| Ok(self.change_part(&[operation]).await?.remove(0));
                join_all(part.iter().copied().map(alone)).await
            }
            Err(error) => vec![Err(error); part.len()],
        };
        join_all(operations.chunks(CHUNK).map(part)).await.into_iter().flatten().collect()
    }

    /// Runs operations by one statement, and once more those that came across a row that was just being made or deleted.
    async fn change_part(&self, operations: &[Operation<'_>]) -> Result<Vec<Answer>, CallError> {
        const MOST_TRIES: usize = 8;
        let mut answers = vec![None; operations.len()];
        for _ in 0..MOST_TRIES {
            let is_open = |at: &usize| answers[*at].is_none_or(|answer: Answer| answer.what == LATE);
            let open: Vec<usize> = (0..operations.len()).filter(is_open).collect();
            if open.is_empty() {
                break;
            }
            let part: Vec<_> = open.iter().map(|&at| operations[at]).collect();
            for (at, answer) in open.into_iter().zip(self.change_once(&part).await?) {
                answers[at] = Some(answer);
            }
        }
        let answer = |answer: Option<Answer>| answer.filter(|answer| answer.what != LATE);
        let contended =
            || CallError::new(Kind::Unsent, "its row was made or deleted by others each time it was looked at");
        answers.into_iter().map(|found| answer(found).ok_or_else(contended)).collect()
    }

    async fn change_once(&self, operations: &[Operation<'_>]) -> Result<Vec<Answer>, CallError> {
        let each = |value: fn(&Operation<'_>) -> i64| Value::Numbers(operations.iter().map(value).collect());
        let values = vec![
            self.namespace(),
            Value::Texts(operations.iter().map(|operation| operation.resource.as_str().to_owned()).collect()),
            Value::Texts(operations.iter().map(|operation| answers::id(operation.id())).collect()),
            each(|operation| operation.number()),
            each(|operation| operation.ttl().map_or(0, micros)),
            each(|operation| operation.claim().map_or(0, |claim| claim.share.weight().into())),
            each(|operation| operation.claim().map_or(0, |claim| claim.share.capacity().into())),
            Value::Texts(operations.iter().map(Operation::owner).collect()),
            Value::text(&self.inbox.name),
            self.grace(),
        ];
        let rows = self.link.call(&self.statements.change, values).await?;
        let answers = Answers::read(&rows, operations.len()).map_err(CallError::unreadable)?;
        self.tell(&answers.letters).await;
        answers.operations.into_iter().map(|answer| answer.ok_or_else(CallError::foreign)).collect()
    }

    /// Tells clients what has become of their leases. Not in the transaction that does it: those that notify wait for each
    /// other, to the end of their commits.
    async fn tell(&self, letters: &[Letter]) {
        let (mut channels, mut messages) = (Vec::new(), Vec::new());
        for letter in letters {
            if letter.inbox == self.inbox.name {
                self.inbox.deliver(&letter.message);
            } else {
                channels.push(letter.inbox.clone());
                messages.push(letter.message.clone());
            }
        }
        if channels.is_empty() {
            return;
        }
        let told = self.link.call(&self.statements.tell, vec![Value::Texts(channels), Value::Texts(messages)]).await;
        if let Err(error) = told {
            tracing::debug!(%error, "clients were not told; they find out when they extend their leases");
        }
    }

    pub(crate) async fn call(&self, statement: &Statement, values: Vec<Value>) -> Result<Vec<PgRow>, CallError> {
        self.link.call(statement, values).await
    }

    pub(crate) fn list_statement(&self) -> &Statement {
        &self.statements.list
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.config.terms.schema
    }

    pub(crate) fn namespace_value(&self) -> Value {
        self.namespace()
    }

    /// Drops what has expired, and grants what that makes room for.
    pub(crate) async fn settle(&self, resources: &[&ResourceName]) -> Result<(), CallError> {
        let operations: Vec<_> = resources.iter().map(|resource| Operation { resource, verb: Verb::Settle }).collect();
        self.change(&operations).await.into_iter().try_for_each(|answer| answer.map(drop))
    }

    pub(crate) fn failed(&self, error: CallError, operation: &'static str) -> BackendError {
        error.into_backend_error(operation, &self.store)
    }
}

fn micros(ttl: Ttl) -> i64 {
    i64::try_from(ttl.get().max(MIN_TTL).as_micros()).expect("bounded by Ttl::MAX")
}

#[async_trait]
impl Backend for PostgresBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        let short = self.each_alone(claims, |claim| self.acquire_shortly(claim)).await;
        let rest = unanswered(claims, &short);
        merge(short, self.acquire_all(&rest).await)
    }

    async fn extend(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let short = self.each_alone(extensions, |extension| self.extend_shortly(extension)).await;
        let rest = unanswered(extensions, &short);
        merge(short, self.extend_all(&rest).await)
    }

    async fn release(&self, releases: &[Release]) -> Vec<Result<Released, BackendError>> {
        releases.iter().for_each(|release| self.inbox.note(release.key.id, Standing::Over));
        let short = self.each_alone(releases, |release| self.release_shortly(&release.key)).await;
        let rest = unanswered(releases, &short);
        merge(short, self.release_all(&rest).await)
    }

    async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        self.look(resource).await.map_err(|error| self.failed(error, "inspect"))
    }

    async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        self.page(filter).await.map_err(|error| self.failed(error, "list"))
    }

    async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        let answer = self.change(&[Operation { resource, verb: Verb::Break }]).await.remove(0);
        answer
            .and_then(|answer| answer.broken().ok_or_else(CallError::foreign))
            .map_err(|error| self.failed(error, "break"))
    }

    async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        self.findings().await.map_err(|error| self.failed(error, "examine"))
    }

    fn events(&self) -> EventStream {
        self.events.stream()
    }
}

fn unanswered<'a, E, T>(entries: &'a [E], answers: &[Option<T>]) -> Vec<&'a E> {
    entries.iter().zip(answers).filter(|(_, answer)| answer.is_none()).map(|(entry, _)| entry).collect()
}

/// Puts the answers to what was unanswered in their places.
fn merge<T>(answers: Vec<Option<T>>, rest: Vec<T>) -> Vec<T> {
    let mut rest = rest.into_iter();
    answers.into_iter().map(|answer| answer.or_else(|| rest.next()).expect("one for each")).collect()
}

impl PostgresBackend {
    /// Answers each entry by a short statement of its own. `None` stands for one that needs the long statement, as all do
    /// that are more than the connections: they are quicker together.
    async fn each_alone<'a, E, T, F>(&self, entries: &'a [E], short: impl Fn(&'a E) -> F) -> Vec<Option<T>>
    where
        F: Future<Output = Option<T>>,
    {
        let are_few = entries.len() <= self.config.connections as usize;
        let mut answers = if are_few { join_all(entries.iter().map(short)).await } else { Vec::new() };
        answers.resize_with(entries.len(), || None);
        answers
    }

    async fn acquire_shortly(&self, claim: &Claim) -> Option<Result<Acquired, BackendError>> {
        if !self.is_worth_asking_first(claim) {
            return None;
        }
        let answer = self.acquire_free(claim).await.transpose();
        match &answer {
            None => self.is_taken.note(&claim.key.resource, true),
            Some(Ok(Acquired::Held(_))) => self.inbox.note(claim.key.id, Standing::Held(claim.ttl)),
            Some(_) => {}
        }
        answer.map(|answer| answer.map_err(|error| self.failed(error, "acquire")))
    }

    async fn acquire_all(&self, claims: &[&Claim]) -> Vec<Result<Acquired, BackendError>> {
        let failed = |error| self.failed(error, "acquire");
        let operations: Vec<_> = claims.iter().map(|claim| Operation::claiming(claim)).collect();
        let answer = |(answer, claim): (Result<Answer, CallError>, &&Claim)| {
            let (resource, asked) = (&claim.key.resource, claim.share.capacity());
            let answer = answer.map_err(failed)?;
            if let Some(left) = answer.is_early_by() {
                return Err(failed(CallError::early(left)));
            }
            let acquired = match answer.acquired().ok_or_else(CallError::foreign).map_err(failed)? {
                Claimed::Acquired(acquired) => acquired,
                Claimed::OtherCapacity(actual) => {
                    return Err(BackendError::CapacityMismatch { resource: resource.clone(), asked, actual });
                }
            };
            match acquired {
                Acquired::Held(_) => self.inbox.note(claim.key.id, Standing::Held(claim.ttl)),
                Acquired::Queued(_) => self.inbox.note(claim.key.id, Standing::Queued(claim.ttl)),
                Acquired::Busy => {}
            }
            Ok(acquired)
        };
        let answers = self.change(&operations).await;
        let early = answers.iter().flatten().filter_map(|answer| answer.is_early_by()).max();
        if let Some(early) = early {
            // So that nobody asks all the time.
            sleep(early.min(MOMENT)).await;
        }
        answers.into_iter().zip(claims).map(answer).collect()
    }

    async fn extend_shortly(&self, extension: &Extension) -> Option<Result<Extended, BackendError>> {
        let answer = self.extend_settled(extension).await.transpose()?;
        Some(self.extended(answer, extension))
    }

    async fn extend_all(&self, extensions: &[&Extension]) -> Vec<Result<Extended, BackendError>> {
        let operations: Vec<_> = extensions.iter().map(|extension| Operation::extending(extension)).collect();
        let read = |answer: Answer| answer.extended().ok_or_else(CallError::foreign);
        let answers = self.change(&operations).await.into_iter().map(|answer| answer.and_then(read));
        answers.zip(extensions).map(|(answer, extension)| self.extended(answer, extension)).collect()
    }

    fn extended(&self, answer: Result<Extended, CallError>, extension: &Extension) -> Result<Extended, BackendError> {
        let extended = answer.map_err(|error| self.failed(error, "extend"))?;
        let standing = match extended {
            Extended::Held(_) => Standing::Held(extension.ttl),
            Extended::Queued(_) => Standing::Queued(extension.ttl),
            Extended::Gone { .. } => Standing::Over,
        };
        self.inbox.note(extension.key.id, standing);
        Ok(extended)
    }

    async fn release_shortly(&self, lease: &LeaseKey) -> Option<Result<Released, BackendError>> {
        if self.is_shared.is_likely(&lease.resource) {
            return None;
        }
        let answer = self.release_alone(lease).await.transpose();
        if answer.is_none() {
            self.is_shared.note(&lease.resource, true);
        }
        answer.map(|answer| answer.map_err(|error| self.failed(error, "release")))
    }

    async fn release_all(&self, releases: &[&Release]) -> Vec<Result<Released, BackendError>> {
        let failed = |error| self.failed(error, "release");
        let operations: Vec<_> = releases.iter().map(|release| Operation::releasing(&release.key)).collect();
        let answer = |(answer, release): (Result<Answer, CallError>, &&Release)| {
            let resource = &release.key.resource;
            let answer = answer.map_err(failed)?;
            if answer.leases_left() == 0 {
                self.is_taken.note(resource, false);
                self.is_shared.note(resource, false);
            }
            answer.released().ok_or_else(CallError::foreign).map_err(failed)
        };
        self.change(&operations).await.into_iter().zip(releases).map(answer).collect()
    }

    async fn look(&self, resource: &ResourceName) -> Result<Snapshot, CallError> {
        let look = async || {
            let rows =
                self.call(&self.statements.inspect, vec![self.namespace(), Value::text(resource.as_str())]).await?;
            answers::snapshot(&rows, resource).map_err(CallError::unreadable)
        };
        let (snapshot, is_stale) = look().await?;
        if !is_stale {
            return Ok(snapshot);
        }
        self.settle(&[resource]).await?;
        Ok(look().await?.0)
    }
}

impl fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBackend").field("config", &self.config).finish_non_exhaustive()
    }
}
