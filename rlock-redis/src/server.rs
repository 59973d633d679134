//! Reads the server's mode, role, uptime and promotion.

use std::time::Duration;

use crate::conn::Conn;
use crate::error::{CallError, Cause};
use crate::wire::{Args, Reply};

const IS_CLUSTER: &str =
    "the server is a node of a Redis Cluster: write redis-cluster://host:port (or rediss-cluster:// for TLS)";
pub(crate) const IS_NO_CLUSTER: &str =
    "the server is not a node of a Redis Cluster: write redis://host:port (or rediss:// for TLS)";
pub(crate) const IS_SENTINEL: &str = "the server is a sentinel: write redis-sentinel://host:port,host:port/service, with the name that the \
                           primary has in sentinel.conf";
const IS_REPLICA: &str = "the server is a replica, which grants nothing: let the URL name the primary";

/// Fails if the server is a replica, if it is no node of a cluster though one is asked for, or the other way round. A server
/// that does not know HELLO does not say so; its answers do.
pub(crate) async fn check_mode_and_role(conn: &Conn, in_cluster: bool) -> Result<(), CallError> {
    if conn.has_resp3() {
        let mut version = Args::default();
        version.fixed("3"); // the connection speaks it already
        match conn.command("HELLO", version).await {
            Ok(Reply::Array(fields)) => check_fields(&fields, in_cluster)?,
            Ok(_) | Err(CallError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if in_cluster { check_cluster(conn).await } else { Ok(()) }
}

fn check_fields(fields: &[Reply], in_cluster: bool) -> Result<(), CallError> {
    if says(fields, "mode", "sentinel") {
        return Err(CallError::Unfit(IS_SENTINEL.into()));
    }
    if says(fields, "mode", "cluster") != in_cluster {
        return Err(CallError::Unfit(if in_cluster { IS_NO_CLUSTER } else { IS_CLUSTER }.into()));
    }
    if says(fields, "role", "replica") {
        return Err(CallError::Unsent(Cause::new(IS_REPLICA)));
    }
    Ok(())
}

/// Fails while the cluster is down: the client library drops a connection whose server says so to a request.
async fn check_cluster(conn: &Conn) -> Result<(), CallError> {
    let mut info = Args::default();
    info.fixed("INFO");
    match conn.command("CLUSTER", info).await? {
        Reply::Text(info) if info.contains("cluster_state:ok") => Ok(()),
        _ => Err(CallError::Unsent(Cause::new(
            "the cluster is down: slots are not served, or most of its primaries fail",
        ))),
    }
}

fn says(fields: &[Reply], field: &str, value: &str) -> bool {
    let says_so = |pair: &[Reply]| {
        let [Reply::Text(name), Reply::Text(found)] = pair else { return false };
        name == field && found == value
    };
    fields.chunks_exact(2).any(says_so)
}

/// Since when a server is what it is.
#[derive(Debug)]
pub(crate) struct Standing {
    /// The least uptime of the server.
    pub(crate) age: Duration,
    /// Another one after each start and each promotion.
    pub(crate) identity: String,
    /// Whether it was promoted since its start.
    pub(crate) is_promoted: bool,
}

/// Reads the server's standing; [`CallError::Unfit`] if it withholds its uptime.
pub(crate) async fn standing(conn: &Conn) -> Result<Standing, CallError> {
    let answer = match conn.command("INFO", Args::default()).await {
        Ok(Reply::Text(info)) => match age_in(&info) {
            // A server that does not know HELLO tells its role here.
            Some(_) if field(&info, "role") == Some("slave") => return Err(CallError::Unsent(Cause::new(IS_REPLICA))),
            Some(age) => {
                let identity = ["run_id", "master_replid"].map(|name| field(&info, name).unwrap_or_default()).join(" ");
                return Ok(Standing { age, identity, is_promoted: is_promoted(&info) });
            }
            None => "INFO has no uptime_in_seconds".to_owned(),
        },
        Ok(other) => format!("it answered {other:?} to INFO"),
        Err(error) if error.is_refusal_with("NOPERM") || error.is_refusal_with("ERR") => {
            format!("it answered {:?} to INFO", error.to_string())
        }
        Err(error) => return Err(error),
    };
    let reason = format!(
        "the server withholds its uptime ({answer}). After a restart without its data it could grant locks that others still \
         hold. Give the user +info, or set restart_grace=0s in the URL."
    );
    Err(CallError::Unfit(reason))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A promoted server keeps the offset up to which it followed its primary.
fn is_promoted(info: &str) -> bool {
    field(info, "second_repl_offset").is_some_and(|offset| offset != "-1")
}

fn age_in(info: &str) -> Option<Duration> {
    let seconds: u64 = field(info, "uptime_in_seconds")?.parse().ok()?;
    // The server cuts both ends of the span to seconds before it subtracts one from the other.
    Some(Duration::from_secs(seconds.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_a_second_less_than_the_uptime() {
        assert_eq!(age_in("# Server\r\nuptime_in_seconds:7\r\n"), Some(Duration::from_secs(6)));
        assert_eq!(age_in("# Server\r\nuptime_in_seconds:0\r\n"), Some(Duration::ZERO));
        for silent in ["", "# Server\r\nredis_version:7.0.0\r\n", "uptime_in_seconds:\r\n"] {
            assert_eq!(age_in(silent), None);
        }
    }

    #[test]
    fn promotion_is_read_from_the_replication_section() {
        let info = |offset| format!("master_replid:abc\r\nmaster_replid2:000\r\nsecond_repl_offset:{offset}\r\n");
        assert!(!is_promoted(&info("-1")));
        assert!(is_promoted(&info("4711")));
        assert!(!is_promoted("uptime_in_seconds:7\r\n"));
    }

    #[test]
    fn only_the_mode_makes_a_cluster() {
        let fields = |texts: &[&str]| texts.iter().map(|text| Reply::Text((*text).into())).collect::<Vec<_>>();
        assert!(says(&fields(&["server", "redis", "mode", "cluster"]), "mode", "cluster"));
        for alone in [&["server", "redis", "mode", "standalone"][..], &["mode", "server", "cluster", "mode"], &[]] {
            assert!(!says(&fields(alone), "mode", "cluster"), "{alone:?}");
        }
    }
}
