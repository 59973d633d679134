//! Reads the server's mode, role and identity.

use std::time::Duration;

use rlock_core::Cause;

use crate::advice;
use crate::conn::Conn;
use crate::error::CallError;
use crate::uptime::{identity_in, is_replica};
use crate::wire::{Args, Reply};

/// Fails if the server is a replica, or if its mode is not as expected: `in_cluster` asks for a node of a cluster. A
/// server that does not support HELLO reports only its role, to users who may run INFO; its later answers show the rest.
pub(crate) async fn check_mode_and_role(conn: &Conn, in_cluster: bool) -> Result<(), CallError> {
    if conn.has_resp3() {
        let mut version = Args::default();
        version.fixed("3"); // the connection speaks it already
        match conn.command("HELLO", version).await {
            Ok(Reply::Array(fields)) => check_fields(&fields, in_cluster)?,
            Ok(_) | Err(CallError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    } else if info(conn, Duration::ZERO).await?.is_some_and(|info| is_replica(&info)) {
        return Err(CallError::Unsent(Cause::new(advice::IS_REPLICA)));
    }
    if in_cluster { check_cluster(conn).await } else { Ok(()) }
}

fn check_fields(fields: &[Reply], in_cluster: bool) -> Result<(), CallError> {
    if says(fields, "mode", "sentinel") {
        return Err(CallError::Unfit(advice::IS_SENTINEL.into()));
    }
    if says(fields, "mode", "cluster") != in_cluster {
        return Err(CallError::Unfit(if in_cluster { advice::IS_NO_CLUSTER } else { advice::IS_CLUSTER }.into()));
    }
    if says(fields, "role", "replica") {
        return Err(CallError::Unsent(Cause::new(advice::IS_REPLICA)));
    }
    Ok(())
}

/// Fails while the cluster is down, because the client library drops a connection when the server answers so to a
/// request.
async fn check_cluster(conn: &Conn) -> Result<(), CallError> {
    match cluster_info(conn).await {
        Ok(Reply::Text(info)) if info.contains("cluster_state:ok") => Ok(()),
        Ok(_) => Err(CallError::Unsent(Cause::new(advice::CLUSTER_IS_DOWN))),
        // The check of the rights reports it: the error of a connection that is opened in the background is transient.
        Err(error) if error.is_refusal_with("NOPERM") => Ok(()),
        Err(error) => Err(error),
    }
}

/// The answer to `CLUSTER INFO`.
pub(crate) async fn cluster_info(conn: &Conn) -> Result<Reply, CallError> {
    let mut info = Args::with_capacity(1);
    info.fixed("INFO");
    conn.command("CLUSTER", info).await
}

/// The server's identity, which changes with each start and each promotion; `None` if the server withholds it. The
/// server may answer after up to `more` time.
pub(crate) async fn identity(conn: &Conn, more: Duration) -> Result<Option<String>, CallError> {
    Ok(info(conn, more).await?.as_deref().map(identity_in))
}

async fn info(conn: &Conn, more: Duration) -> Result<Option<String>, CallError> {
    match conn.command_within(more, "INFO", Args::default()).await {
        Ok(Reply::Text(info)) => Ok(Some(info)),
        Ok(_) | Err(CallError::Refused(_)) => Ok(None),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mode_makes_a_cluster() {
        let fields = |texts: &[&str]| texts.iter().map(|text| Reply::Text((*text).into())).collect::<Vec<_>>();
        assert!(says(&fields(&["server", "redis", "mode", "cluster"]), "mode", "cluster"));
        for alone in [&["server", "redis", "mode", "standalone"][..], &["mode", "server", "cluster", "mode"], &[]] {
            assert!(!says(&fields(alone), "mode", "cluster"), "{alone:?}");
        }
    }
}
