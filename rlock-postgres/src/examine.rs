//! Checks the server's settings.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rlock_core::Finding;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::PostgresBackend;
use crate::error::CallError;
use crate::statement::Statement;

impl PostgresBackend {
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>, CallError> {
        let statement = Statement::new(include_str!("sql/examine.sql"), &self.config.settings.schema);
        let rows = self.link.read(&statement, Vec::new()).await?;
        let row = rows.first().ok_or_else(CallError::foreign)?;
        let settings = ServerSettings::read(row).map_err(CallError::unreadable)?;
        let version = Finding::good("version", format!("Postgres {}", settings.version));
        let clock = Finding::clock(UNIX_EPOCH + settings.now, SystemTime::now());
        let mut findings = vec![version, durability(&settings)];
        findings.extend(replication(&settings));
        findings.push(clock);
        let horizon = Statement::new(include_str!("sql/horizon.sql"), &self.config.settings.schema);
        let rows = self.link.read(&horizon, Vec::new()).await?;
        let held_back: Result<Vec<_>, _> = rows.iter().map(HeldBack::read).collect();
        findings.extend(vacuum(&held_back.map_err(CallError::unreadable)?, settings.sees_all));
        findings.push(notifications(&settings, self.listens()));
        Ok(findings)
    }
}

/// A transaction, slot or standby that keeps the server from removing dead versions of rows.
#[derive(Debug)]
struct HeldBack {
    kind: i64,
    name: String,
    seconds: i64,
    transactions: i64,
}

impl HeldBack {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            kind: row.try_get(0)?,
            name: row.try_get(1)?,
            seconds: row.try_get(2)?,
            transactions: row.try_get(3)?,
        })
    }
}

/// Reports what slows busy locks down.
fn vacuum(held_back: &[HeldBack], sees_all: bool) -> Vec<Finding> {
    let subject = "vacuum";
    let tell = |one: &HeldBack| {
        let HeldBack { kind, name, seconds, transactions } = one;
        let what = match kind {
            1 => format!(
                "a transaction of {name} has been open for {seconds}s: end it, or keep locks in a database of their own"
            ),
            2 => format!("the prepared transaction {name} is {seconds}s old: COMMIT PREPARED it, or roll it back"),
            3 => format!("the replication slot {name} has an old snapshot: drop it if its standby is gone"),
            _ => format!("the standby {name} reports an old snapshot (hot_standby_feedback): end the query there"),
        };
        Finding::note(
            subject,
            format!(
                "{what}. Dead versions of rows have stayed for {transactions} transactions, which slows busy locks down"
            ),
        )
    };
    let mut findings: Vec<_> = held_back.iter().map(tell).collect();
    if !sees_all {
        let text =
            "old transactions of other roles cannot be seen: GRANT pg_read_all_stats to the role to have them reported";
        findings.push(Finding::note(subject, text));
    } else if findings.is_empty() {
        findings.push(Finding::good(subject, "nothing keeps dead versions of rows from being cleared away"));
    }
    findings
}

/// Reports how waiters learn of their grants.
fn notifications(settings: &ServerSettings, listens: bool) -> Finding {
    let subject = "notifications";
    let usage = settings.notification_queue;
    if usage >= 50 {
        let text = format!(
            "{usage} % of the server's notification queue are full, and waiters will not be notified: end the session \
             that listens in a long transaction (pg_stat_activity)"
        );
        return Finding::note(subject, text);
    }
    if !listens {
        let text = "they do not arrive, as behind a pooler in transaction mode: waiters poll; name the server itself in listen_url \
                    to have them notified";
        return Finding::note(subject, text);
    }
    Finding::good(subject, format!("waiters are notified ({usage} % of the server's queue are in use)"))
}

#[derive(Debug, Default)]
struct ServerSettings {
    version: String,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    synchronous_standby_names: String,
    is_replica: bool,
    replicas: i64,
    now: Duration,
    /// In percent.
    notification_queue: i64,
    /// Whether the role may see the sessions of other roles.
    sees_all: bool,
}

impl ServerSettings {
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
            notification_queue: row.try_get(8)?,
            sees_all: row.try_get(9)?,
        })
    }
}

fn durability(settings: &ServerSettings) -> Finding {
    let subject = "durability";
    for (name, value) in [("fsync", &settings.fsync), ("full_page_writes", &settings.full_page_writes)] {
        if value == "off" {
            let text =
                format!("{name} is off: after a crash of the host locks may be gone, or the tables damaged; set it on");
            return Finding::risk(subject, text);
        }
    }
    if settings.synchronous_commit == "off" {
        let text = "synchronous_commit is off: a crash of the server loses the locks of the last moments; \
                    set it on for rlock's role: ALTER ROLE … SET synchronous_commit = on";
        return Finding::risk(subject, text);
    }
    Finding::good(
        subject,
        format!("a lock is on disk when it is granted (synchronous_commit {})", settings.synchronous_commit),
    )
}

fn replication(settings: &ServerSettings) -> Option<Finding> {
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
        Finding::good(subject, format!("{count} replicas, of which some have a lock before it is granted"))
    } else {
        let text = format!(
            "{count} replicas, which receive a lock only after it was granted: a failover loses the locks of the last \
             moments; set synchronous_standby_names, or rely on fencing tokens"
        );
        Finding::note(subject, text)
    })
}

#[cfg(test)]
mod tests {
    use rlock_core::Verdict;

    use super::*;

    fn on(settings: ServerSettings) -> ServerSettings {
        let on = || "on".to_owned();
        ServerSettings { fsync: on(), full_page_writes: on(), synchronous_commit: on(), ..settings }
    }

    #[test]
    fn what_is_not_flushed_is_a_risk() {
        assert_eq!(durability(&on(ServerSettings::default())).verdict, Verdict::Good);
        let off = || "off".to_owned();
        let settings = on(ServerSettings::default());
        assert_eq!(durability(&ServerSettings { fsync: off(), ..settings }).verdict, Verdict::Risk);
        let settings = on(ServerSettings::default());
        assert_eq!(durability(&ServerSettings { full_page_writes: off(), ..settings }).verdict, Verdict::Risk);
        let settings = on(ServerSettings::default());
        assert_eq!(durability(&ServerSettings { synchronous_commit: off(), ..settings }).verdict, Verdict::Risk);
    }

    #[test]
    fn old_snapshots_and_full_queues_are_noted() {
        let one = |kind| HeldBack { kind, name: "x".to_owned(), seconds: 90, transactions: 5 };
        let findings = vacuum(&[1, 2, 3, 4].map(one), true);
        for (finding, remedy) in
            findings.iter().zip(["open for 90s", "COMMIT PREPARED", "slot x", "hot_standby_feedback"])
        {
            assert!(finding.verdict == Verdict::Note && finding.text.contains(remedy), "{finding:?}");
        }
        assert_eq!(vacuum(&[], true)[0].verdict, Verdict::Good);
        assert_eq!(vacuum(&[], false)[0].verdict, Verdict::Note);
        assert_eq!(notifications(&ServerSettings::default(), true).verdict, Verdict::Good);
        assert_eq!(notifications(&ServerSettings::default(), false).verdict, Verdict::Note);
        let full = ServerSettings { notification_queue: 80, ..ServerSettings::default() };
        assert!(notifications(&full, true).text.contains("80 %"));
    }

    #[test]
    fn asynchronous_replicas_are_reported() {
        let judged = |settings| replication(&on(settings)).map(|finding| finding.verdict);
        assert_eq!(judged(ServerSettings::default()), None);
        assert_eq!(judged(ServerSettings { replicas: 1, ..ServerSettings::default() }), Some(Verdict::Note));
        let names = "ANY 1 (*)".to_owned();
        let waited = ServerSettings { replicas: 1, synchronous_standby_names: names, ..ServerSettings::default() };
        assert_eq!(judged(waited), Some(Verdict::Good));
        assert_eq!(judged(ServerSettings { is_replica: true, ..ServerSettings::default() }), Some(Verdict::Risk));
    }
}
