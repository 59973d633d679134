//! Reads the server's mode, role and uptime.

use std::time::Duration;

use crate::conn::{Args, Conn, Reply};
use crate::error::{CallError, Cause};

const IS_CLUSTER: &str = "the server is a node of a Redis Cluster, but rlock uses one server: use one with cluster-enabled no (in a \
                          managed service, with cluster mode disabled), which may have replicas";
const IS_REPLICA: &str = "the server is a replica, which grants nothing: let the URL name the primary";

/// Fails if the server is a replica, or a node of a cluster, even of a cluster of one. A server that does not know HELLO does
/// not say so; its answers do.
pub(crate) async fn check_mode_and_role(conn: &Conn) -> Result<(), CallError> {
    if !conn.has_resp3() {
        return Ok(());
    }
    let mut version = Args::default();
    version.fixed("3"); // the connection speaks it already
    match conn.command("HELLO", version).await {
        Ok(Reply::Array(fields)) if says(&fields, "mode", "cluster") => Err(CallError::Unfit(IS_CLUSTER.into())),
        Ok(Reply::Array(fields)) if says(&fields, "role", "replica") => Err(CallError::Unsent(Cause::new(IS_REPLICA))),
        Ok(_) | Err(CallError::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn says(fields: &[Reply], field: &str, value: &str) -> bool {
    let says_so = |pair: &[Reply]| {
        let [Reply::Text(name), Reply::Text(found)] = pair else { return false };
        name == field && found == value
    };
    fields.chunks_exact(2).any(says_so)
}

/// The least uptime of the server; [`CallError::Unfit`] if the server withholds it.
pub(crate) async fn least_age(conn: &Conn) -> Result<Duration, CallError> {
    let mut server = Args::default();
    server.fixed("server");
    let answer = match conn.command("INFO", server).await {
        Ok(Reply::Text(info)) => match age_in(&info) {
            Some(age) => return Ok(age),
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

fn age_in(info: &str) -> Option<Duration> {
    let uptime = info.lines().find_map(|line| line.strip_prefix("uptime_in_seconds:"))?;
    let seconds: u64 = uptime.trim().parse().ok()?;
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
    fn only_the_mode_makes_a_cluster() {
        let fields = |texts: &[&str]| texts.iter().map(|text| Reply::Text((*text).into())).collect::<Vec<_>>();
        assert!(says(&fields(&["server", "redis", "mode", "cluster"]), "mode", "cluster"));
        for alone in [&["server", "redis", "mode", "standalone"][..], &["mode", "server", "cluster", "mode"], &[]] {
            assert!(!says(&fields(alone), "mode", "cluster"), "{alone:?}");
        }
    }
}
