//! Deletes what nobody has used for long.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Row as _;
use tokio::time::sleep;

use crate::error::CallError;
use crate::link::Link;
use crate::statement::{Statement, Value};

/// How many rows are looked at by one statement.
const STRETCH: i64 = 1_000;
const PAUSE: Duration = Duration::from_millis(10);

/// Sweeps for ever. Of all clients of a database, one does it at a time.
pub(crate) async fn sweep(link: Arc<Link>, turn: Statement, sweep: Statement, keep: Duration) {
    let every = (keep / 10).clamp(Duration::from_millis(100), Duration::from_secs(300));
    loop {
        sleep(every.mul_f64(rand::random_range(0.75..1.25))).await;
        if let Err(error) = sweep_once(&link, &turn, &sweep, keep, every).await {
            tracing::debug!(%error, "what is unused could not be deleted");
        }
    }
}

async fn sweep_once(
    link: &Link,
    turn: &Statement,
    sweep: &Statement,
    keep: Duration,
    every: Duration,
) -> Result<(), CallError> {
    let micros = |time: Duration| Value::Number(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
    if link.call(turn, vec![micros(every)]).await?.is_empty() {
        return Ok(());
    }
    let mut end = (String::new(), String::new());
    loop {
        let values = vec![Value::Text(end.0), Value::Text(end.1), micros(keep), Value::Number(STRETCH)];
        let rows = link.call(sweep, values).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let column = |at: usize| row.try_get::<String, _>(at).map_err(CallError::unreadable);
        end = (column(0)?, column(1)?);
        sleep(PAUSE).await;
    }
}
