//! Looking at the server's settings.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rlock_core::Finding;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::PostgresBackend;
use crate::error::CallError;
use crate::statement::Statement;

impl PostgresBackend {
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>, CallError> {
        let statement = Statement::new(include_str!("sql/examine.sql"), self.schema());
        let rows = self.call(&statement, Vec::new()).await?;
        let row = rows.first().ok_or_else(CallError::foreign)?;
        let settings = Settings::read(row).map_err(CallError::unreadable)?;
        let version = Finding::good("version", format!("Postgres {}", settings.version));
        let clock = Finding::clock(UNIX_EPOCH + settings.now, SystemTime::now());
        Ok([Some(version), Some(durability(&settings)), replication(&settings), Some(clock)]
            .into_iter()
            .flatten()
            .collect())
    }
}

#[derive(Debug, Default)]
struct Settings {
    version: String,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    synchronous_standby_names: String,
    is_replica: bool,
    replicas: i64,
    now: Duration,
}

impl Settings {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            version: row.try_get(0)?,
            fsync: row.try_get(1)?,
            full_page_writes: row.try_get(2)?,
            synchronous_commit: row.try_get(3)?,
            synchronous_standby_names: row.try_get(4)?,
            is_replica: row.try_get(5)?,
            replicas: row.try_get(6)?,
            now: Duration::from_micros(u64::try_from(row.try_get::<i64, _>(7)?).unwrap_or_default()),
        })
    }
}

fn durability(settings: &Settings) -> Finding {
    let subject = "durability";
    for (name, value) in [("fsync", &settings.fsync), ("full_page_writes", &settings.full_page_writes)] {
        if value == "off" {
            let text =
                format!("{name} is off: after a crash of the host locks may be gone, or the tables damaged; set it on");
            return Finding::risk(subject, text);
        }
    }
    if settings.synchronous_commit == "off" {
        let text = "synchronous_commit is off: a crash of the server forgets locks that were granted in the moments before; \
                    set it on for the role that rlock has: ALTER ROLE … SET synchronous_commit = on";
        return Finding::risk(subject, text);
    }
    Finding::good(
        subject,
        format!("a lock is on disk when it is granted (synchronous_commit {})", settings.synchronous_commit),
    )
}

fn replication(settings: &Settings) -> Option<Finding> {
    let subject = "replication";
    if settings.is_replica {
        return Some(Finding::risk(subject, "the server is a replica, which grants nothing: name the primary"));
    }
    if settings.replicas == 0 {
        return None;
    }
    let count = settings.replicas;
    let is_waited_for = !settings.synchronous_standby_names.is_empty() && settings.synchronous_commit != "local";
    Some(if is_waited_for {
        Finding::good(subject, format!("{count} replicas, of which some know of a lock before it is granted"))
    } else {
        let text = format!(
            "{count} replicas, which get to know of a lock after it was granted: a failover forgets what was granted in the \
             moments before; set synchronous_standby_names, or rely on fencing tokens"
        );
        Finding::note(subject, text)
    })
}

#[cfg(test)]
mod tests {
    use rlock_core::Verdict;

    use super::*;

    fn on(settings: Settings) -> Settings {
        let on = || "on".to_owned();
        Settings { fsync: on(), full_page_writes: on(), synchronous_commit: on(), ..settings }
    }

    #[test]
    fn what_is_not_flushed_is_a_risk() {
        assert_eq!(durability(&on(Settings::default())).verdict, Verdict::Good);
        let off = || "off".to_owned();
        let settings = on(Settings::default());
        assert_eq!(durability(&Settings { fsync: off(), ..settings }).verdict, Verdict::Risk);
        let settings = on(Settings::default());
        assert_eq!(durability(&Settings { full_page_writes: off(), ..settings }).verdict, Verdict::Risk);
        let settings = on(Settings::default());
        assert_eq!(durability(&Settings { synchronous_commit: off(), ..settings }).verdict, Verdict::Risk);
    }

    #[test]
    fn replicas_that_are_not_waited_for_are_told_of() {
        let judged = |settings| replication(&on(settings)).map(|finding| finding.verdict);
        assert_eq!(judged(Settings::default()), None);
        assert_eq!(judged(Settings { replicas: 1, ..Settings::default() }), Some(Verdict::Note));
        let names = "ANY 1 (*)".to_owned();
        let waited = Settings { replicas: 1, synchronous_standby_names: names, ..Settings::default() };
        assert_eq!(judged(waited), Some(Verdict::Good));
        assert_eq!(judged(Settings { is_replica: true, ..Settings::default() }), Some(Verdict::Risk));
    }
}
