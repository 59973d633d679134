//! Checks the servers.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{AlarmAction, AlarmType, Client, GetOptions, Member};
use futures_util::future::join_all;
use rlock_core::{BackendError, Finding};
use tokio::time::timeout;

use crate::conn::{Conn, options};
use crate::error::{CallError, Kind};
use crate::inner::Inner;

/// The time limit for the answer of a member.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// The default quota of a server, in bytes.
const DEFAULT_QUOTA: i64 = 2 << 30;
/// The number of revisions from which a history needs compaction.
const LONG_HISTORY: i64 = 100_000;
const MIB: i64 = 1 << 20;

impl Inner {
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>, BackendError> {
        let mut findings = Vec::new();
        let looks = [self.server().await, self.alarms().await, self.history().await, self.members().await];
        for found in looks {
            match found {
                Ok(some) => findings.extend(some),
                // With authentication on, some users may not ask.
                Err(error) if error.kind == Kind::Refused => findings.push(Finding::note("server", error.to_string())),
                Err(error) => return Err(self.failed(error, "examine")),
            }
        }
        Ok(findings)
    }

    async fn server(&self) -> Result<Vec<Finding>, CallError> {
        let ask = |conn: Arc<Conn>| async move { Ok(conn.maintenance().status().await?) };
        let status = self.link.call(ask).await?.value;
        Ok(vec![of_version(status.version(), status.errors()), of_size(status.db_size(), status.db_size_quota())])
    }

    async fn alarms(&self) -> Result<Vec<Finding>, CallError> {
        let ask = |conn: Arc<Conn>| async move {
            Ok(conn.maintenance().alarm(AlarmAction::Get, AlarmType::None, None).await?)
        };
        let answer = self.link.call(ask).await?.value;
        let alarm = answer.alarms().iter().map(|member| member.alarm()).find(|alarm| *alarm != AlarmType::None);
        Ok(vec![match alarm {
            None => Finding::good("alarms", "none"),
            Some(AlarmType::Nospace) => {
                let text = "NOSPACE: the database has reached its quota, and no lock is granted; compact and \
                            defragment it, raise --quota-backend-bytes, then etcdctl alarm disarm";
                Finding::risk("alarms", text)
            }
            Some(alarm) => {
                let text = format!("{alarm:?}: the data of the servers differ; replace the one that differs");
                Finding::risk("alarms", text)
            }
        }])
    }

    /// Whether the history is compacted. A server does not report how it is configured, so this looks at how far back
    /// it can read.
    async fn history(&self) -> Result<Vec<Finding>, CallError> {
        let at = |revision| {
            move |conn: Arc<Conn>| async move {
                let options = GetOptions::new().with_count_only().with_revision(revision);
                match conn.kv().get(conn.keys().any(), Some(options)).await.map_err(CallError::from) {
                    Ok(got) => Ok(Some(got.header().map_or(0, etcd_client::ResponseHeader::revision))),
                    Err(error) if error.reason.contains("compacted") => Ok(None),
                    Err(error) => Err(error),
                }
            }
        };
        let now = self.link.call(at(0)).await?.value.unwrap_or_default();
        let is_whole = self.link.call(at(1)).await?.value.is_some();
        let is_long = now > LONG_HISTORY && self.link.call(at(now - LONG_HISTORY)).await?.value.is_some();
        Ok(vec![of_history(now, is_whole, is_long)])
    }

    async fn members(&self) -> Result<Vec<Finding>, CallError> {
        let ask = |conn: Arc<Conn>| async move { Ok(conn.cluster().member_list().await?) };
        let answer = self.link.call(ask).await?.value;
        let members: Vec<_> = answer.members().iter().filter(|member| !member.is_learner()).collect();
        let answers = join_all(members.iter().map(|member| self.answers(member))).await;
        let silent = members.iter().zip(answers).filter(|(_, answers)| !answers);
        let silent: Vec<_> = silent.map(|(member, _)| member.client_urls().join(" ")).collect();
        Ok([of_members(members.len())].into_iter().chain(of_silent(members.len(), &silent)).collect())
    }

    /// Whether a member answers at its client URLs.
    async fn answers(&self, member: &Member) -> bool {
        let ask = async {
            let options = options(&self.config)?;
            Ok::<_, CallError>(Client::connect(member.client_urls(), Some(options)).await?.status().await?)
        };
        // A member that refuses the request is up.
        match timeout(ANSWERED_WITHIN, ask).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => error.kind == Kind::Refused,
            Err(_elapsed) => false,
        }
    }
}

fn of_version(version: &str, errors: &[String]) -> Finding {
    let subject = "version";
    if let Some(error) = errors.iter().find(|error| !error.contains("NOSPACE")) {
        return Finding::risk(subject, format!("etcd {version}, which reports: {error}"));
    }
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse::<u32>().unwrap_or_default());
    let mut number = || numbers.next().unwrap_or_default();
    let (major, minor, patch) = (number(), number(), number());
    let fault = match (major, minor) {
        (0..3, _) | (3, 0..4) => Some("is older than rlock supports: update to 3.5.23, 3.6.5 or later"),
        (3, 4) if patch < 31 => Some(STALLED_LEADER),
        (3, 5) if patch < 7 => Some(EARLY_3_5),
        (3, 5) if patch < 13 => Some(STALLED_LEADER),
        _ => None,
    };
    match fault {
        Some(fault) => Finding::risk(subject, format!("etcd {version} {fault}")),
        None => Finding::good(subject, format!("etcd {version}")),
    }
}

const STALLED_LEADER: &str = "has a fault in its leases: a leader that stalls and resumes may end locks that are held \
                              (etcd issue 15247); update to 3.4.31, 3.5.13 or later";

const EARLY_3_5: &str = "may crash when a read is cancelled, and denies reads once its database is full, so that locks \
                         that are held are lost; a leader that stalls and resumes may end them too (etcd issue 15247); \
                         update to 3.5.13 or later";

/// Servers report their quota since 3.6.
fn of_size(size: i64, quota: i64) -> Finding {
    let (size_text, subject) = (size / MIB, "database");
    let (quota, text) = match quota {
        0 => (DEFAULT_QUOTA, format!("{size_text} MiB; without --quota-backend-bytes it may grow to 2048 MiB")),
        _ => (quota, format!("{size_text} of {} MiB", quota / MIB)),
    };
    if size < quota / 5 * 4 {
        return Finding::good(subject, text);
    }
    let text = format!(
        "{text}: it is nearly full, and a full one grants no lock; compact and defragment it, or raise the quota"
    );
    Finding::risk(subject, text)
}

fn of_history(revisions: i64, is_whole: bool, is_long: bool) -> Finding {
    let subject = "history";
    let remedy = "start the servers with --auto-compaction-retention, or their database grows until it is full";
    match (is_long, is_whole) {
        (true, _) => Finding::risk(subject, format!("more than {LONG_HISTORY} revisions were not compacted: {remedy}")),
        (_, true) => Finding::note(subject, format!("none of {revisions} revisions was compacted so far: {remedy}")),
        _ => Finding::good(subject, "compacted"),
    }
}

fn of_members(count: usize) -> Finding {
    let subject = "members";
    match count {
        1 => Finding::note(subject, "one server: while it is down no client gets a lock, and its disk is the only one"),
        _ if count.is_multiple_of(2) => {
            let text =
                format!("{count} servers tolerate the loss of no more than {} would: add or remove one", count - 1);
            Finding::note(subject, text)
        }
        _ => Finding::good(subject, format!("{count} servers, which tolerate the loss of {}", count / 2)),
    }
}

fn of_silent(count: usize, silent: &[String]) -> Option<Finding> {
    let (first, left) = (silent.first()?, count.saturating_sub(1) / 2);
    let text = format!(
        "{} of {count} servers did not answer within {ANSWERED_WITHIN:?}, {first} for instance: it may be down, or \
         unreachable from here; of {count} servers {left} may be down",
        silent.len()
    );
    Some(Finding::risk("members", text))
}

#[cfg(test)]
mod tests {
    use rlock_core::Verdict;

    use super::*;

    #[test]
    fn three_and_four_servers_tolerate_one_loss() {
        assert!(of_members(1).text.contains("while it is down"));
        assert_eq!(of_members(3).text, "3 servers, which tolerate the loss of 1");
        assert!(of_members(4).text.contains("than 3 would"));
    }

    #[test]
    fn versions_with_faults_in_leases_are_risks() {
        for risky in ["3.3.27", "3.4.0", "3.4.30", "3.5.0", "3.5.12"] {
            assert_eq!(of_version(risky, &[]).verdict, Verdict::Risk, "{risky}");
        }
        for good in ["3.4.31", "3.4.38", "3.5.13", "3.5.23", "3.6.0", "3.6.5-rc.0", "3.7.2", "4.0.0"] {
            assert_eq!(of_version(good, &[]).verdict, Verdict::Good, "{good}");
        }
    }

    #[test]
    fn history_without_compaction_is_reported() {
        assert_eq!(of_history(7, true, false).verdict, Verdict::Note);
        assert_eq!(of_history(200_000, true, true).verdict, Verdict::Risk);
        assert_eq!(of_history(200_000, false, false).verdict, Verdict::Good);
    }

    #[test]
    fn nearly_full_database_is_a_risk() {
        for (size, quota, verdict) in [
            (3 * MIB, 4 * MIB, Verdict::Good),
            (4 * MIB, 5 * MIB, Verdict::Risk),
            (1_000 * MIB, 0, Verdict::Good),
            (1_700 * MIB, 0, Verdict::Risk),
        ] {
            let finding = of_size(size, quota);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
        }
    }

    #[test]
    fn silent_members_are_named() {
        assert!(of_silent(3, &[]).is_none());
        let text = of_silent(3, &["http://b:2379".to_owned()]).unwrap().text;
        assert!(text.starts_with("1 of 3 servers") && text.contains("http://b:2379"), "{text}");
    }
}
