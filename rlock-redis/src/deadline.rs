//! Deadlines for script calls, on the server's clock.
//!
//! The network, a proxy or a stopped server may hold a claim back, and deliver it after the client has replaced the
//! connection, claimed again on the new one, and released the lease. Such a claim would leave a lease without a holder
//! for its TTL. So a claim carries a deadline, and the server drops a claim that it runs later. Core covers the time up
//! to the deadline: it repeats the release of a lease whose claim had no answer. A break has a deadline too, because a
//! late one would end the lease of a later holder. So has the release of a grant that replicas did not confirm: core
//! may claim again by the same id, and a late release would end that grant.

use std::time::{Duration, Instant};

use rlock_core::Cause;
use tokio::time::sleep_until;

use crate::answers;
use crate::conn::Conn;
use crate::error::CallError;
use crate::scripts::Script;
use crate::silent_spell::SUSPICIOUS;
use crate::wire::{Args, Reply};

/// The longest time in which a repeated call may take effect. It is shorter than the time for which core repeats
/// releases.
const LONGEST: Duration = Duration::from_secs(30);

/// Runs a script, and adds the deadline as its last argument.
///
/// The first deadline is the time at which the client begins to replace the connection, if it stays silent. A server
/// that is slower than that, or whose clock was set forward, drops the call and answers with its time. The client then
/// repeats the call, and counts the timeout of a request from that time, but no more than [`LONGEST`].
///
/// # Cancel safety
///
/// A call whose future is dropped may be carried out.
pub(crate) async fn run(
    conn: &Conn,
    asking: bool,
    script: &Script,
    build: impl Fn(&mut Args),
) -> Result<Reply, CallError> {
    let sent = Instant::now();
    let call = send(conn, asking, script, &build, || conn.clock().time_at(Instant::now() + patience(conn)));
    let reply = if conn.is_clock_old() {
        // The server answers in order, so the call takes no longer. Without an answer the old estimate stays.
        let (_time, reply) = tokio::join!(biased; conn.read_clock(), call);
        reply?
    } else {
        call.await?
    };
    let Some(now) = dropped_at(conn, sent, &reply) else { return Ok(reply) };
    let limit = conn.timeout().min(LONGEST);
    let reply = send(conn, asking, script, &build, || now.saturating_add(micros(limit))).await?;
    if answers::late(&reply).is_none() {
        return Ok(reply);
    }
    let reason = format!(
        "the server ran the request later than {limit:?} after it was sent, by its own clock: the server is overloaded, \
         or its clock was set"
    );
    Err(CallError::Unsent(Cause::new(reason)))
}

/// Runs a script with a deadline once, and fails without an answer only after the deadline.
///
/// # Cancel safety
///
/// As [`run`].
pub(crate) async fn run_once(
    conn: &Conn,
    asking: bool,
    script: &Script,
    build: impl Fn(&mut Args),
) -> Result<Reply, CallError> {
    let sent = Instant::now();
    let deadline = sent + patience(conn);
    let reply = send(conn, asking, script, &build, || conn.clock().time_at(deadline)).await;
    if matches!(reply, Err(CallError::Unanswered(_))) {
        sleep_until(deadline.into()).await;
    }
    let reply = reply?;
    match dropped_at(conn, sent, &reply) {
        None => Ok(reply),
        Some(_) => Err(CallError::Unsent(Cause::new("the server ran the request too late, by its own clock"))),
    }
}

/// Runs a script with a deadline as its last argument, in µs of the server's clock.
async fn send(
    conn: &Conn,
    asking: bool,
    script: &Script,
    build: &impl Fn(&mut Args),
    deadline: impl Fn() -> i64,
) -> Result<Reply, CallError> {
    let build = |args: &mut Args| {
        build(args);
        args.number(u64::try_from(deadline()).unwrap_or_default());
    };
    script.call(conn, asking, build).await
}

/// The time after which the client begins to replace a silent connection.
fn patience(conn: &Conn) -> Duration {
    SUSPICIOUS.min(conn.timeout())
}

/// The server's time, if it dropped a call that came after its deadline. The estimate of the server's clock takes it in.
fn dropped_at(conn: &Conn, sent: Instant, reply: &Reply) -> Option<i64> {
    let now = answers::late(reply)?;
    conn.clock().note(sent, Instant::now(), now);
    Some(now)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
