//! Deletes rows of resources that have been unused for a long time.

use std::sync::Arc;
use std::time::Duration;

use rlock_core::{Namespace, ResourceName};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::time::sleep;

use crate::PostgresConfig;
use crate::change::Changes;
use crate::error::CallError;
use crate::link::Link;
use crate::operation::Operation;
use crate::statement::{Statement, Value};

/// The number of rows that one statement scans.
const STRETCH: i64 = 1_000;
const PAUSE: Duration = Duration::from_millis(10);

/// Deletes rows of resources that have been unused for a long time, in turn with the other clients of a database.
pub(crate) struct Sweeper {
    link: Arc<Link>,
    changes: Arc<Changes>,
    turn: Statement,
    sweep: Statement,
    keep: Duration,
    every: Duration,
}

impl Sweeper {
    pub(crate) fn new(config: &PostgresConfig, link: Arc<Link>, changes: Arc<Changes>) -> Self {
        let keep = config.settings.keep_unused;
        Self {
            link,
            changes,
            turn: Statement::new(include_str!("sql/turn.sql"), &config.settings.schema),
            sweep: Statement::new(include_str!("sql/sweep.sql"), &config.settings.schema),
            keep,
            every: (keep / 10).clamp(Duration::from_millis(100), Duration::from_secs(300)),
        }
    }

    async fn sweep_once(&self) -> Result<(), CallError> {
        let micros = |time: Duration| Value::Number(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        if self.link.call(&self.turn, vec![micros(self.every)]).await?.is_empty() {
            return Ok(());
        }
        let mut end = (String::new(), String::new());
        loop {
            let values = vec![Value::Text(end.0), Value::Text(end.1), micros(self.keep), Value::Number(STRETCH)];
            let rows = self.link.call(&self.sweep, values).await?;
            let Some(row) = rows.last() else { return Ok(()) };
            end = (text(row, 0)?, text(row, 1)?);
            for row in &rows {
                if row.try_get("is_abandoned").map_err(CallError::unreadable)? {
                    self.settle(&text(row, 0)?, &text(row, 1)?).await?;
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Drops the expired waiters and shared holders of a resource; the next sweep deletes its row.
    async fn settle(&self, namespace: &str, name: &str) -> Result<(), CallError> {
        let (Ok(namespace), Ok(resource)) = (Namespace::new(namespace), ResourceName::new(name)) else { return Ok(()) };
        self.changes.run(&namespace, &[Operation::settling(&resource)]).await.remove(0).map(drop)
    }
}

/// Sweeps forever.
pub(crate) async fn sweep(sweeper: Sweeper) {
    loop {
        sleep(sweeper.every.mul_f64(rand::random_range(0.75..1.25))).await;
        if let Err(error) = sweeper.sweep_once().await {
            tracing::debug!(%error, "unused rows could not be deleted");
        }
    }
}

fn text(row: &PgRow, at: usize) -> Result<String, CallError> {
    row.try_get(at).map_err(CallError::unreadable)
}
