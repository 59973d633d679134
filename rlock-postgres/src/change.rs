//! Runs operations by the procedures in sql/free.sql and sql/change.sql.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use rlock_core::Namespace;
use sqlx::postgres::PgRow;

use crate::answers::Answer;
use crate::error::{CallError, Kind};
use crate::link::Link;
use crate::operation::Operation;
use crate::statement::{Statement, Value};
use crate::{PostgresConfig, schema};

/// The maximum number of operations in a call. All their rows are locked until it ends.
const CHUNK: usize = 64;
/// The maximum number of attempts after each kind of interference.
const MOST_TRIES: usize = 8;

/// Calls a procedure. [`Statement::call`](crate::statement::Statement::call) sets the first parameter.
const CALL: &str = "CALL {schema}.{procedure}_{procedures}(false, $1, $2, $3, $4, $5, $6, $7::pg_catalog.text[]::\
                               pg_catalog.uuid[], $8, $9, $10, $11, $12, NULL, NULL, NULL, NULL, NULL)";

/// Calls the procedures for one client.
#[derive(Debug)]
pub(crate) struct Changes {
    link: Arc<Link>,
    free: Statement,
    change: Statement,
    /// Whether an operation needed more than the procedure for free resources can do. From then on, sessions compile one
    /// procedure, and each call is one round trip.
    meets_others: AtomicBool,
    inbox: String,
    /// In µs.
    grace: i64,
    store: Arc<str>,
    has_warned: AtomicBool,
}

impl Changes {
    pub(crate) fn new(config: &PostgresConfig, store: Arc<str>, link: Arc<Link>, inbox: String) -> Arc<Self> {
        let call = |procedure| {
            let text = CALL.replace("{procedure}", procedure).replace("{procedures}", schema::PROCEDURES);
            Statement::call(&text, &config.settings.schema)
        };
        Arc::new(Self {
            link,
            free: call("change_free"),
            change: call("change"),
            meets_others: AtomicBool::new(false),
            inbox,
            grace: i64::try_from(config.settings.restart_grace.as_micros()).expect("an hour at most"),
            store,
            has_warned: AtomicBool::new(false),
        })
    }

    /// Runs operations in parts, all concurrently.
    pub(crate) async fn run(
        &self,
        namespace: &Namespace,
        operations: &[Operation<'_>],
    ) -> Vec<Result<Answer, CallError>> {
        // Calls that lock rows in the same order do not deadlock.
        let mut sorted: Vec<(usize, &Operation<'_>)> = operations.iter().enumerate().collect();
        sorted.sort_by(|(_, one), (_, other)| one.resource.as_str().cmp(other.resource.as_str()));
        let part = async |part: &[(usize, &Operation<'_>)]| {
            let operations: Vec<_> = part.iter().map(|(_, operation)| *operation).collect();
            self.run_part(namespace, &operations).await
        };
        let answers = join_all(sorted.chunks(CHUNK).map(part)).await.into_iter().flatten();
        let mut in_order: Vec<_> = sorted.iter().map(|(at, _)| *at).zip(answers).collect();
        in_order.sort_unstable_by_key(|(at, _)| *at);
        in_order.into_iter().map(|(_, answer)| answer).collect()
    }

    async fn run_part(&self, namespace: &Namespace, part: &[&Operation<'_>]) -> Vec<Result<Answer, CallError>> {
        let alone = async |operation: &Operation<'_>| self.run_alone(namespace, operation).await;
        match self.run_once(namespace, part).await {
            // An operation that met a concurrent change is retried alone.
            Ok(answers) => {
                let answer = async |(answer, operation): (Answer, &&Operation<'_>)| {
                    if answer.is_late() { alone(operation).await } else { Ok(answer) }
                };
                join_all(answers.into_iter().zip(part).map(answer)).await
            }
            // Another session has locked one of the rows; the other operations need not wait for it.
            Err(error) if part.len() > 1 && error.is_locked() => join_all(part.iter().copied().map(alone)).await,
            Err(error) => vec![Err(error); part.len()],
        }
    }

    async fn run_alone(&self, namespace: &Namespace, operation: &Operation<'_>) -> Result<Answer, CallError> {
        for _ in 0..MOST_TRIES {
            let answer = self.run_once(namespace, &[operation]).await?.pop().ok_or_else(CallError::foreign)?;
            if !answer.is_late() {
                return Ok(answer);
            }
        }
        Err(CallError::new(Kind::Unsent, "other sessions changed its row during each attempt"))
    }

    async fn run_once(&self, namespace: &Namespace, operations: &[&Operation<'_>]) -> Result<Vec<Answer>, CallError> {
        if !operations.iter().all(|operation| operation.may_be_free()) {
            self.meets_others.store(true, Ordering::Relaxed);
        }
        for _ in 0..MOST_TRIES {
            let statement = if self.meets_others.load(Ordering::Relaxed) { &self.change } else { &self.free };
            let rows = self.link.call(statement, self.values(namespace, operations)).await?;
            if let Some(answers) = self.read(&rows, operations.len())? {
                return Ok(answers);
            }
            // An operation needs more, or the server's clock was set forward, or it is another server's: the link has read
            // its time from the answer.
            self.meets_others.store(true, Ordering::Relaxed);
        }
        Err(CallError::new(
            Kind::Unsent,
            "the server rolled the request back each time, because its clock jumps: check how its time is synchronized",
        ))
    }

    fn values(&self, namespace: &Namespace, operations: &[&Operation<'_>]) -> Vec<Value> {
        let is_harmless = operations.iter().all(|operation| operation.is_harmless_late());
        let deadline = if is_harmless { Value::Number(i64::MAX) } else { Value::Deadline };
        let space = Value::text(namespace.as_str());
        let mut values = vec![space, Value::Number(self.grace), deadline, Value::text(&*self.inbox)];
        values.extend(Operation::values(operations));
        values
    }

    /// Reads the answers; `None` if the server undid the call.
    fn read(&self, rows: &[PgRow], operations: usize) -> Result<Option<Vec<Answer>>, CallError> {
        let Some((answers, is_untold)) = Answer::read(rows, operations).map_err(CallError::unreadable)? else {
            return Ok(None);
        };
        if is_untold && !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                store = %self.store,
                "the server's notification queue is nearly full, so waiters learn of grants only by their renewals: \
                 end the transaction of the session that listens and does not read (pg_notification_queue_usage)"
            );
        }
        Ok(Some(answers))
    }
}
