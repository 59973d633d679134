//! Reads the server's uptime and promotion, which determine how long it grants nothing.

use std::time::{Duration, Instant};

use rlock_core::Cause;

use crate::advice;
use crate::conn::Conn;
use crate::error::CallError;
use crate::scripts;
use crate::wire::{Args, Reply};

/// Finds out how long the server grants nothing, unless that is certain; [`CallError::Unfit`] while it withholds its
/// uptime. Tasks that come while one asks share the next answer. `mark` is the key of the mark of
/// [`Grace`](crate::grace::Grace).
pub(crate) async fn learn_grace(conn: &Conn, mark: &str) -> Result<(), CallError> {
    let (grace, came) = (conn.grace(), Instant::now());
    let mut failed = grace.asking.lock().await;
    if grace.is_certain() || grace.was_asked_since(came) {
        return Ok(());
    }
    if let Some((asked, error)) = &*failed
        && *asked >= came
    {
        return Err(error.clone());
    }
    let asked = Instant::now();
    let learned = ask(conn, mark, asked).await;
    // Another task may ask for a mark in a slot that stays.
    let lasting = learned.as_ref().err().filter(|error| !error.is_of_moving_slot());
    *failed = lasting.map(|error| (asked, error.clone()));
    learned
}

async fn ask(conn: &Conn, mark: &str, asked: Instant) -> Result<(), CallError> {
    let grace = conn.grace();
    let uptime = uptime(conn).await.inspect_err(|error| {
        if matches!(error, CallError::Unfit(_)) {
            grace.forget(); // the next claim is not sent ahead of the question
        }
    })?;
    if grace.is_still(&uptime.identity, asked) {
        return Ok(());
    }
    let passed = match uptime.age {
        Some(age) if grace.is_over_at(age) && !uptime.is_promoted => age,
        _ => known_for(conn, mark, &uptime.identity).await?,
    };
    grace.has_passed(passed, uptime.identity, asked);
    Ok(())
}

/// The age and the identity of a server.
#[derive(Debug)]
struct Uptime {
    /// The minimum uptime of the server. Unknown if its clock was set back to a time before its start.
    age: Option<Duration>,
    identity: String,
    /// Whether it was promoted since its start.
    is_promoted: bool,
}

/// Reads the server's age and identity; [`CallError::Unfit`] if it withholds its uptime.
async fn uptime(conn: &Conn) -> Result<Uptime, CallError> {
    let answer = match conn.command("INFO", Args::default()).await {
        Ok(Reply::Text(info)) => match age_in(&info) {
            Some(_) if is_replica(&info) => {
                conn.give_up();
                return Err(CallError::Unsent(Cause::new(advice::IS_REPLICA)));
            }
            Some(age) => {
                return Ok(Uptime { age, identity: identity_in(&info), is_promoted: is_promoted(&info) });
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

/// The identity of a server in its answer to `INFO`. It changes with each start and each promotion.
pub(crate) fn identity_in(info: &str) -> String {
    ["run_id", "master_replid"].map(|name| field(info, name).unwrap_or_default()).join(" ")
}

/// Whether a server is a replica, by its answer to `INFO`.
pub(crate) fn is_replica(info: &str) -> bool {
    field(info, "role") == Some("slave")
}

/// The value of a field of an answer to `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A promoted server keeps the offset up to which it followed its primary.
fn is_promoted(info: &str) -> bool {
    field(info, "second_repl_offset").is_some_and(|offset| offset != "-1")
}

/// The field [`Uptime::age`]; `None` without an uptime.
fn age_in(info: &str) -> Option<Option<Duration>> {
    let seconds: i64 = field(info, "uptime_in_seconds")?.parse().ok()?;
    // The server truncates both ends of the span to seconds before it subtracts them.
    Some(u64::try_from(seconds).ok().map(|seconds| Duration::from_secs(seconds.saturating_sub(1))))
}

/// The time since the first client found the server in its role. It is zero for the first client, and while the server
/// accepts no writes.
async fn known_for(conn: &Conn, mark: &str, identity: &str) -> Result<Duration, CallError> {
    let reply = scripts::MARK.call(conn, false, |args| {
        args.fixed("1");
        args.text(mark);
        args.text(identity);
    });
    let reply = match reply.await {
        Err(error) if ["OOM", "NOREPLICAS", "MISCONF"].iter().any(|code| error.is_refusal_with(code)) => {
            return Ok(Duration::ZERO);
        }
        reply => reply?,
    };
    match reply {
        Reply::Number(micros) => Ok(Duration::from_micros(u64::try_from(micros).unwrap_or_default())),
        other => Err(CallError::Refused(format!("{other:?} to a script about the identity of the server"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_a_second_less_than_the_uptime() {
        assert_eq!(age_in("# Server\r\nuptime_in_seconds:7\r\n"), Some(Some(Duration::from_secs(6))));
        assert_eq!(age_in("# Server\r\nuptime_in_seconds:0\r\n"), Some(Some(Duration::ZERO)));
        assert_eq!(age_in("# Server\r\nuptime_in_seconds:-7\r\n"), Some(None));
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
}
