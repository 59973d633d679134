//! Checks the settings of the servers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rlock_core::{BackendError, Finding};

use crate::RedisBackend;
use crate::primary::Primary;
use crate::wire::{Args, Reply};

impl RedisBackend {
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>, BackendError> {
        let mut findings = Vec::new();
        for primary in self.route.primaries() {
            let name = self.route.name_of(&primary);
            let of_one = match self.findings_of(&primary).await {
                Ok(findings) => findings,
                // The other primaries are examined nevertheless.
                Err(error) if !name.is_empty() => vec![Finding::risk("primary", error.to_string())],
                Err(error) => return Err(error),
            };
            findings.extend(of_one.into_iter().map(|finding| named(finding, &name)));
        }
        Ok(findings)
    }

    async fn findings_of(&self, primary: &Primary) -> Result<Vec<Finding>, BackendError> {
        let Some(Reply::Text(info)) = self.if_allowed(primary, "INFO", Args::default()).await? else {
            let text = "this user may not run INFO, so the server's settings were not checked: +info allows it, and \
                        restart_grace other than 0s needs it";
            return Ok(vec![Finding::note("settings", text)]);
        };
        let mut appendfsync = Args::default();
        appendfsync.fixed("GET");
        appendfsync.fixed("appendfsync");
        let flushed = match self.if_allowed(primary, "CONFIG", appendfsync).await? {
            Some(Reply::Array(pair)) => pair.into_iter().nth(1),
            _ => None,
        };
        let flushed = if let Some(Reply::Text(when)) = flushed { Some(when) } else { None };
        let info = Info(&info);
        let mut findings = vec![version(&info), eviction(&info), self.persistence(&info, flushed.as_deref())];
        findings.extend(replication(&info));
        findings.extend(self.clock(primary).await?);
        Ok(findings)
    }

    /// The server's answer, or `None` if this user may not run the command.
    async fn if_allowed(
        &self,
        primary: &Primary,
        name: &'static str,
        args: Args,
    ) -> Result<Option<Reply>, BackendError> {
        let asked = async { primary.commands()?.command(name, args).await }.await;
        match asked.map_err(|error| self.call_failed(error, "examine")) {
            Ok(reply) => Ok(Some(reply)),
            Err(BackendError::Rejected(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn persistence(&self, info: &Info<'_>, flushed: Option<&str>) -> Finding {
        let subject = "persistence";
        if info.is("aof_last_write_status", "err") || info.is("rdb_last_bgsave_status", "err") {
            return Finding::risk(subject, "the server could not write to its disk the last time: see its log");
        }
        if !info.is("aof_enabled", "1") {
            let grace = self.restart_grace();
            let text = format!(
                "the server keeps no log (appendonly no): after a restart it has lost its locks, and grants them again \
                 {grace:?} later (restart_grace), although a holder that was cut off has not learned of that; set \
                 appendonly yes and appendfsync always, or restart_grace to the longest TTL"
            );
            return Finding::risk(subject, text);
        }
        match flushed {
            Some("always") => {
                Finding::good(subject, "the log is flushed before a lock is granted (appendfsync always)")
            }
            Some("everysec") => {
                let text = "the log is flushed each second (appendfsync everysec): a crash of the host, not of the server \
                            alone, loses the locks of the last second; `always` loses nothing";
                Finding::note(subject, text)
            }
            Some(when) => {
                let text = format!(
                    "the system decides when to flush the log (appendfsync {when}): a crash of the host loses the \
                     locks of the last half minute; set it to always, or everysec"
                );
                Finding::risk(subject, text)
            }
            None => {
                Finding::note(subject, "the server keeps a log (appendonly yes); this user may not see appendfsync")
            }
        }
    }

    async fn clock(&self, primary: &Primary) -> Result<Option<Finding>, BackendError> {
        let Some(Reply::Array(time)) = self.if_allowed(primary, "TIME", Args::default()).await? else {
            return Ok(None);
        };
        let [Reply::Text(seconds), Reply::Text(micros)] = &time[..] else { return Ok(None) };
        let (Ok(seconds), Ok(micros)) = (seconds.parse(), micros.parse()) else { return Ok(None) };
        let theirs = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
        Ok(Some(Finding::clock(theirs, SystemTime::now())))
    }
}

fn named(mut finding: Finding, server: &str) -> Finding {
    if !server.is_empty() {
        finding.text = format!("{server}: {}", finding.text);
    }
    finding
}

/// The answer to INFO.
#[derive(Debug)]
struct Info<'a>(&'a str);

impl<'a> Info<'a> {
    fn get(&self, field: &str) -> Option<&'a str> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.map(str::trim)
    }

    fn is(&self, field: &str, value: &str) -> bool {
        self.get(field) == Some(value)
    }
}

fn version(info: &Info<'_>) -> Finding {
    let (name, version) = match info.get("valkey_version") {
        Some(version) => ("Valkey", version),
        None => ("Redis", info.get("redis_version").unwrap_or("of an unknown version")),
    };
    Finding::good("version", format!("{name} {version}"))
}

fn eviction(info: &Info<'_>) -> Finding {
    let (limit, policy) = (info.get("maxmemory").unwrap_or("0"), info.get("maxmemory_policy").unwrap_or("noeviction"));
    let subject = "eviction";
    if policy == "noeviction" {
        return Finding::good(subject, "nothing is removed to make room (maxmemory-policy noeviction)");
    }
    if limit == "0" {
        let text = format!(
            "nothing is removed to make room, because maxmemory is not set; once it is, maxmemory-policy {policy} \
             removes locks: set noeviction"
        );
        return Finding::note(subject, text);
    }
    let text = format!(
        "the server removes locks that are held when its memory is full (maxmemory-policy {policy}): set noeviction, or \
         use a separate server for locks"
    );
    Finding::risk(subject, text)
}

fn replication(info: &Info<'_>) -> Option<Finding> {
    let subject = "replication";
    if !info.is("role", "master") {
        return Some(Finding::risk(subject, "the server is a replica, which grants nothing: name the primary"));
    }
    let replicas = info.get("connected_slaves").filter(|&count| count != "0")?;
    let text = format!(
        "{replicas} replicas, which receive a lock only after it was granted: a failover loses the locks of the last \
         moments; fencing tokens protect resources that check them"
    );
    Some(Finding::note(subject, text))
}

#[cfg(test)]
mod tests {
    use rlock_core::Verdict;

    use super::*;

    #[test]
    fn eviction_is_a_risk_once_memory_is_limited() {
        let judged = |limit, policy| {
            let info = format!("# Memory\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n");
            eviction(&Info(&info)).verdict
        };
        assert_eq!(judged("0", "noeviction"), Verdict::Good);
        assert_eq!(judged("1048576", "noeviction"), Verdict::Good);
        assert_eq!(judged("0", "volatile-lru"), Verdict::Note);
        assert_eq!(judged("1048576", "volatile-lru"), Verdict::Risk);
        assert_eq!(judged("1048576", "allkeys-random"), Verdict::Risk);
    }

    #[test]
    fn replicas_are_reported_and_refused_as_stores() {
        let judged = |info| replication(&Info(info)).map(|finding| finding.verdict);
        assert_eq!(judged("role:master\r\nconnected_slaves:0\r\n"), None);
        assert_eq!(judged("role:master\r\nconnected_slaves:2\r\n"), Some(Verdict::Note));
        assert_eq!(judged("role:slave\r\n"), Some(Verdict::Risk));
    }
}
