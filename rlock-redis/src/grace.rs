//! The time after a server's start or promotion in which it grants nothing.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::conn::Conn;
use crate::error::{CallError, Cause};
use crate::scripts;
use crate::server;
use crate::wire::Reply;

/// The grace of one server, as [`restart_grace`](crate::RedisConfig::restart_grace) has it.
///
/// For a server alone it begins at its start, which its uptime tells. No server tells when it was promoted, or when its
/// cluster or its sentinels let clients use it. There, clients leave a mark in it, with its identity: the grace begins with
/// the mark.
#[derive(Debug)]
pub(crate) struct Grace {
    length: Duration,
    is_alone: bool,
    /// Not set while the server withholds its uptime.
    over: OnceLock<Instant>,
}

impl Grace {
    /// The time that a cluster or sentinels take to begin, and their clients to come.
    const STARTING: Duration = Duration::from_secs(60);
    /// The longest pause before a claim fails, so that callers do not retry in a tight loop.
    const MOMENT: Duration = Duration::from_millis(200);

    pub(crate) fn new(length: Duration, is_alone: bool) -> Self {
        Self { length, is_alone, over: if length.is_zero() { OnceLock::from(Instant::now()) } else { OnceLock::new() } }
    }

    /// The instant from which the server may grant; [`CallError::Unfit`] while it withholds its uptime. `mark` is the key of
    /// the mark.
    pub(crate) async fn over(&self, conn: &Conn, mark: &str) -> Result<Instant, CallError> {
        if let Some(&known) = self.over.get() {
            return Ok(known);
        }
        let standing = server::standing(conn).await?;
        let is_settled = self.is_alone || standing.age > self.length + Self::STARTING;
        let passed = match is_settled && !standing.is_promoted {
            true => standing.age,
            false => known_for(conn, mark, &standing.identity).await?,
        };
        Ok(*self.over.get_or_init(|| Instant::now() + self.length.saturating_sub(passed)))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.get().is_some_and(|over| *over <= Instant::now())
    }

    /// Fails during the grace. A failure takes up to 200 ms.
    pub(crate) async fn pass(&self) -> Result<(), CallError> {
        let left = self.left();
        if left.is_zero() {
            return Ok(());
        }
        tokio::time::sleep(left.min(Self::MOMENT)).await;
        if left <= Self::MOMENT {
            return Ok(());
        }
        let reason = format!(
            "the server was started or promoted a moment ago: earlier holders have {:?} left to learn of their loss \
             (restart_grace)",
            left - Self::MOMENT
        );
        Err(CallError::Unsent(Cause::new(reason)))
    }

    /// The rest of the grace. While it is not known, the server may not grant for another moment.
    pub(crate) fn left(&self) -> Duration {
        self.over.get().map_or(Self::MOMENT, |over| over.saturating_duration_since(Instant::now()))
    }
}

/// The time since the first client has found the server in its role. It is zero for the first, and where the server takes no
/// writes for now.
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
