//! Checks the servers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{AlarmAction, AlarmType, Client, GetOptions, Member, ResponseHeader, StatusResponse};
use futures_util::future::{join, join_all};
use rlock_core::{BackendError, Finding, Verdict};
use tokio::time::timeout;

use crate::conn::{Conn, options};
use crate::error::{CallError, Kind};
use crate::inner::Inner;
use crate::quota::quota_at;

/// The time limit for the answer of a member.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// The default quota of a server, in bytes.
const DEFAULT_QUOTA: i64 = 2 << 30;
/// The number of revisions from which a history needs compaction.
const LONG_HISTORY: i64 = 100_000;
const MIB: i64 = 1 << 20;

/// The state of a server as it reports it.
#[derive(Debug)]
struct Server {
    /// Its number in the cluster.
    id: u64,
    address: String,
    version: String,
    errors: Vec<String>,
    /// In bytes, as the quota.
    size: i64,
    /// Less than 0 for none; `None` if it is not known.
    quota: Option<i64>,
}

/// A member that votes.
#[derive(Debug)]
enum Voter {
    Up(Server),
    /// The member is up, and does not answer this user.
    Refused,
    /// No answer came from these client URLs.
    Silent(String),
}

impl Inner {
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>, BackendError> {
        let (connected, members) = join(self.connected(), self.members()).await;
        let (members, cluster) = match members {
            Ok(members) => {
                let found = of_members(&members);
                (members, Ok(found))
            }
            Err(error) => (Vec::new(), Err(error)),
        };
        let servers = connected.map(|connected| of_servers(&each_once(connected, members)));
        let mut findings = Vec::new();
        for found in [servers, self.alarms().await, self.history().await, cluster] {
            match found {
                Ok(some) => findings.extend(some),
                // With authentication on, some users may not ask.
                Err(error) if error.kind == Kind::Refused => findings.push(Finding::note("server", error.to_string())),
                Err(error) => return Err(self.failed(error, "examine")),
            }
        }
        Ok(findings)
    }

    /// The server that this client is connected to.
    async fn connected(&self) -> Result<Server, CallError> {
        let ask = |conn: Arc<Conn>| async move {
            let status = conn.maintenance().status().await?;
            Ok((conn.endpoint.clone(), status))
        };
        let (address, status) = self.link.call(ask).await?.value;
        Ok(self.server(address, &status).await)
    }

    async fn server(&self, address: String, status: &StatusResponse) -> Server {
        let quota = match status.db_size_quota() {
            // Only servers since 3.6 report it.
            0 if self.config.tls.is_none() => timeout(ANSWERED_WITHIN, quota_at(&address)).await.ok().flatten(),
            0 => None,
            quota => Some(quota),
        };
        Server {
            id: status.header().map_or(0, ResponseHeader::member_id),
            address,
            version: status.version().to_owned(),
            errors: status.errors().to_vec(),
            size: status.db_size(),
            quota,
        }
    }

    /// Asks all members that vote.
    async fn members(&self) -> Result<Vec<Voter>, CallError> {
        let ask = |conn: Arc<Conn>| async move { Ok(conn.cluster().member_list().await?) };
        let answer = self.link.call(ask).await?.value;
        let voters = answer.members().iter().filter(|member| !member.is_learner());
        Ok(join_all(voters.map(|member| self.ask(member))).await)
    }

    async fn ask(&self, member: &Member) -> Voter {
        let urls = member.client_urls();
        let ask = async {
            let options = options(&self.config)?;
            Ok::<_, CallError>(Client::connect(urls, Some(options)).await?.status().await?)
        };
        match timeout(ANSWERED_WITHIN, ask).await {
            Ok(Ok(status)) => {
                let first = urls.first().map_or("", String::as_str);
                let address = first.split_once("://").map_or(first, |(_, address)| address);
                Voter::Up(self.server(address.to_owned(), &status).await)
            }
            Ok(Err(error)) if error.kind == Kind::Refused => Voter::Refused,
            Ok(Err(_)) | Err(_) => Voter::Silent(urls.join(" ")),
        }
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
                    Ok(got) => Ok(Some(got.header().map_or(0, ResponseHeader::revision))),
                    Err(error) if error.cause.reason.contains("compacted") => Ok(None),
                    Err(error) => Err(error),
                }
            }
        };
        let now = self.link.call(at(0)).await?.value.unwrap_or_default();
        let is_whole = self.link.call(at(1)).await?.value.is_some();
        let is_long = now > LONG_HISTORY && self.link.call(at(now - LONG_HISTORY)).await?.value.is_some();
        Ok(vec![of_history(now, is_whole, is_long)])
    }
}

/// The connected server and the members that report their state, each once.
fn each_once(connected: Server, members: Vec<Voter>) -> Vec<Server> {
    let others = members.into_iter().filter_map(|voter| match voter {
        Voter::Up(server) if server.id != connected.id => Some(server),
        _ => None,
    });
    let mut servers: Vec<_> = others.collect();
    servers.insert(0, connected);
    servers
}

/// The versions, the errors, and the database that is the fullest.
fn of_servers(servers: &[Server]) -> Vec<Finding> {
    let mut findings = of_versions(servers);
    findings.extend(servers.iter().filter_map(of_errors));
    let databases = servers.iter().map(|server| (server.size, of_size(server)));
    findings.extend(databases.max_by_key(|(size, found)| (found.verdict, *size)).map(|(_, fullest)| fullest));
    findings
}

fn of_versions(servers: &[Server]) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for server in servers {
        versions.entry(&server.version).or_default().push(&server.address);
    }
    let is_mixed = versions.len() > 1;
    let found = versions.into_iter().map(|(version, addresses)| {
        let mut found = of_version(version);
        if is_mixed {
            found.text = format!("{}: {}", addresses.join(" "), found.text);
        }
        found
    });
    found.collect()
}

/// The first error that a server reports, except a full database, which is an alarm.
fn of_errors(server: &Server) -> Option<Finding> {
    let error = server.errors.iter().find(|error| !error.contains("NOSPACE"))?;
    Some(Finding::risk("errors", format!("{} reports: {error}", server.address)))
}

fn of_version(version: &str) -> Finding {
    let subject = "version";
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

fn of_size(server: &Server) -> Finding {
    let (size, subject) = (server.size / MIB, "database");
    let Some(quota) = server.quota else {
        let text = format!(
            "{size} MiB; its quota is unknown, {} MiB unless --quota-backend-bytes sets another, and a full database \
             grants no lock",
            DEFAULT_QUOTA / MIB
        );
        return Finding::note(subject, text);
    };
    if quota < 0 {
        return Finding::good(subject, format!("{size} MiB, without a quota"));
    }
    let text = format!("{size} of {} MiB", quota / MIB);
    if server.size < quota / 5 * 4 {
        return Finding::good(subject, text);
    }
    let text = format!(
        "{text} at {}: it is nearly full, and a full one grants no lock; compact and defragment it, or raise the quota",
        server.address
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

fn of_members(members: &[Voter]) -> Vec<Finding> {
    let silent: Vec<_> = members
        .iter()
        .filter_map(|voter| match voter {
            Voter::Silent(urls) => Some(urls.as_str()),
            _ => None,
        })
        .collect();
    let count = of_count(members.len());
    // A cluster that has lost a server no longer tolerates the loss of as many.
    let holds = |found: &Finding| silent.is_empty() || found.verdict != Verdict::Good;
    Some(count).filter(holds).into_iter().chain(of_silent(members.len(), &silent)).collect()
}

fn of_count(count: usize) -> Finding {
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

fn of_silent(count: usize, silent: &[&str]) -> Option<Finding> {
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
    use super::*;

    fn server(address: &str, version: &str) -> Server {
        let address = address.to_owned();
        Server {
            id: 1,
            address,
            version: version.to_owned(),
            errors: Vec::new(),
            size: MIB,
            quota: Some(DEFAULT_QUOTA),
        }
    }

    #[test]
    fn three_and_four_servers_tolerate_one_loss() {
        assert!(of_count(1).text.contains("while it is down"));
        assert_eq!(of_count(3).text, "3 servers, which tolerate the loss of 1");
        assert!(of_count(4).text.contains("than 3 would"));
    }

    #[test]
    fn versions_with_faults_in_leases_are_risks() {
        for risky in ["3.3.27", "3.4.0", "3.4.30", "3.5.0", "3.5.12"] {
            assert_eq!(of_version(risky).verdict, Verdict::Risk, "{risky}");
        }
        for good in ["3.4.31", "3.4.38", "3.5.13", "3.5.23", "3.6.0", "3.6.5-rc.0", "3.7.2", "4.0.0"] {
            assert_eq!(of_version(good).verdict, Verdict::Good, "{good}");
        }
    }

    #[test]
    fn each_version_of_a_cluster_is_reported() {
        let servers = [server("a:1", "3.5.23"), server("b:2", "3.5.12"), server("c:3", "3.5.23")];
        let findings = of_versions(&servers);
        let verdicts: Vec<_> = findings.iter().map(|found| found.verdict).collect();
        assert_eq!(verdicts, [Verdict::Risk, Verdict::Good]);
        assert!(findings[0].text.starts_with("b:2: etcd 3.5.12 has a fault"), "{findings:?}");
        assert_eq!(findings[1].text, "a:1 c:3: etcd 3.5.23");
        assert_eq!(of_versions(&servers[..1])[0].text, "etcd 3.5.23");
    }

    #[test]
    fn errors_and_databases_of_all_servers_count() {
        let errors = vec!["alarm:NOSPACE".to_owned(), "etcdserver: no leader".to_owned()];
        let cut_off = Server { errors, ..server("b:2", "3.5.23") };
        let full = Server { size: DEFAULT_QUOTA, ..server("c:3", "3.5.23") };
        let larger = Server { size: 2 * DEFAULT_QUOTA, quota: Some(-1), ..server("d:4", "3.5.23") };
        let findings = of_servers(&[server("a:1", "3.5.23"), cut_off, full, larger]);
        let of = |subject: &'static str| findings.iter().filter(move |found| found.subject == subject);
        let errors: Vec<_> = of("errors").map(|found| &*found.text).collect();
        assert_eq!(errors, ["b:2 reports: etcdserver: no leader"]);
        let databases: Vec<_> = of("database").collect();
        assert!(matches!(&databases[..], [full] if full.text.starts_with("2048 of 2048 MiB at c:3")), "{databases:?}");
    }

    #[test]
    fn connected_server_is_judged_once() {
        let other = Server { id: 2, ..server("b:2", "3.5.23") };
        let members = vec![Voter::Up(server("here:1", "3.5.23")), Voter::Refused, Voter::Up(other)];
        let servers = each_once(server("a:1", "3.5.23"), members);
        let addresses: Vec<_> = servers.iter().map(|server| &*server.address).collect();
        assert_eq!(addresses, ["a:1", "b:2"]);
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
            (3 * MIB, Some(4 * MIB), Verdict::Good),
            (4 * MIB, Some(5 * MIB), Verdict::Risk),
            (4_000 * MIB, Some(-1), Verdict::Good),
            (3 * MIB, None, Verdict::Note),
            (1_700 * MIB, None, Verdict::Note),
        ] {
            let finding = of_size(&Server { size, quota, ..server("a:1", "3.5.23") });
            assert_eq!(finding.verdict, verdict, "{finding:?}");
        }
    }

    #[test]
    fn silent_members_are_named() {
        let up = |id| Voter::Up(Server { id, ..server("a:1", "3.5.23") });
        let whole = of_members(&[up(1), up(2), up(3)]);
        assert!(matches!(&whole[..], [all] if all.verdict == Verdict::Good), "{whole:?}");
        let reduced = of_members(&[up(1), Voter::Silent("http://b:2379".to_owned()), Voter::Refused]);
        let [lost] = &reduced[..] else { panic!("one line is enough: {reduced:?}") };
        assert_eq!(lost.verdict, Verdict::Risk);
        assert!(lost.text.starts_with("1 of 3 servers") && lost.text.contains("http://b:2379"), "{lost:?}");
    }
}
