//! Looking at the servers.

use std::sync::Arc;

use etcd_client::{AlarmAction, AlarmType};
use rlock_core::{BackendError, Finding};

use crate::conn::Conn;
use crate::error::{CallError, Kind};
use crate::inner::Inner;

impl Inner {
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>, BackendError> {
        let mut findings = Vec::new();
        for found in [self.server().await, self.alarms().await, self.members().await] {
            match found {
                Ok(finding) => findings.push(finding),
                // With authentication on, not everybody may ask.
                Err(error) if error.kind == Kind::Refused => findings.push(Finding::note("server", error.to_string())),
                Err(error) => return Err(self.failed(error, "examine")),
            }
        }
        Ok(findings)
    }

    async fn server(&self) -> Result<Finding, CallError> {
        const MIB: i64 = 1 << 20;
        let ask = |conn: Arc<Conn>| async move { Ok(conn.maintenance().status().await?) };
        let status = self.link.call(ask).await?.value;
        if let Some(error) = status.errors().first() {
            return Ok(Finding::risk("version", format!("etcd {}, which says: {error}", status.version())));
        }
        let size = status.db_size() / MIB;
        Ok(Finding::good("version", format!("etcd {}, with a database of {size} MiB", status.version())))
    }

    async fn alarms(&self) -> Result<Finding, CallError> {
        let ask = |conn: Arc<Conn>| async move {
            Ok(conn.maintenance().alarm(AlarmAction::Get, AlarmType::None, None).await?)
        };
        let answer = self.link.call(ask).await?.value;
        let alarm = answer.alarms().iter().map(|member| member.alarm()).find(|alarm| *alarm != AlarmType::None);
        Ok(match alarm {
            None => Finding::good("alarms", "none"),
            Some(AlarmType::Nospace) => {
                let text = "NOSPACE: the database is as large as it may be, and no lock is granted; compact and defragment \
                            it, raise --quota-backend-bytes, then etcdctl alarm disarm";
                Finding::risk("alarms", text)
            }
            Some(alarm) => {
                let text = format!("{alarm:?}: the servers do not agree on what they keep; replace the odd one out");
                Finding::risk("alarms", text)
            }
        })
    }

    async fn members(&self) -> Result<Finding, CallError> {
        let ask = |conn: Arc<Conn>| async move { Ok(conn.cluster().member_list().await?) };
        let answer = self.link.call(ask).await?.value;
        Ok(of_members(answer.members().iter().filter(|member| !member.is_learner()).count()))
    }
}

fn of_members(count: usize) -> Finding {
    let subject = "members";
    match count {
        1 => Finding::note(subject, "one server: while it is down nobody gets a lock, and its disk is the only one"),
        _ if count.is_multiple_of(2) => {
            let text =
                format!("{count} servers bear the loss of no more of them than {} would: add or remove one", count - 1);
            Finding::note(subject, text)
        }
        _ => Finding::good(subject, format!("{count} servers, which bear the loss of {}", count / 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_servers_bear_the_loss_of_one_and_four_of_no_more() {
        assert!(of_members(1).text.contains("while it is down"));
        assert_eq!(of_members(3).text, "3 servers, which bear the loss of 1");
        assert!(of_members(4).text.contains("than 3 would"));
    }
}
