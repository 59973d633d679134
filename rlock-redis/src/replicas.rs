//! Waits until replicas have confirmed writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use rlock_core::Cause;

use crate::config::Replicas;
use crate::conn::Conn;
use crate::error::{CallError, READONLY};
use crate::link::Link;
use crate::server;
use crate::wire::{Args, Reply};

type Round = Shared<BoxFuture<'static, Result<Confirmed, CallError>>>;

/// The number of replicas of a server that have its writes.
#[derive(Debug, Clone)]
struct Confirmed {
    count: u64,
    /// The connection to the server.
    conn: Arc<Conn>,
    /// The identity of the server after its replicas confirmed.
    identity: Option<String>,
}

/// Asks one primary how many replicas have its writes.
///
/// `WAIT` blocks later commands on its connection, so it has a separate connection. It counts the replicas that have
/// the writes of that connection and all earlier ones, so a write is sent before it. One `WAIT` is in flight at a time;
/// requests that come meanwhile share the next one.
pub(crate) struct Confirmations {
    link: Arc<Link>,
    wanted: Replicas,
    /// The next `WAIT`, which has not been sent yet.
    next: Arc<Mutex<Option<Round>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Confirmations {
    pub(crate) fn new(link: Link, wanted: Replicas) -> Self {
        Self { link: Arc::new(link), wanted, next: Arc::default(), turn: Arc::default() }
    }

    /// The number of replicas that have all earlier writes over the connection `written`. This writes to `key`.
    ///
    /// A failure is [`CallError::Unanswered`]: the earlier writes may or may not have reached replicas. This fails if
    /// another server may have taken the place of the one with the writes, or if that was promoted since `written` was
    /// opened: it may have lost them in between.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the `WAIT` to the other requests that share it.
    pub(crate) async fn count(&self, written: &Conn, key: String) -> Result<u64, CallError> {
        let round = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            next.get_or_insert_with(|| self.round(key)).clone()
        };
        let unasked =
            |error: CallError| CallError::Unanswered(Cause::new(format!("the replicas were not asked: {error}")));
        let confirmed = round.await.map_err(unasked)?;
        let is_there = written.address() == confirmed.conn.address();
        let is_same = is_there && written.began_with(confirmed.identity.as_deref());
        if is_there && !is_same && !written.is_closed() {
            // New connections show which of the servers serves now. A closed one is replaced already, and so is one to
            // an address that the sentinels no longer name.
            written.give_up();
            confirmed.conn.give_up();
        }
        if written.is_closed() || !is_same {
            // A first replica also gives a server another identity.
            let reason = "the server was replaced, promoted or first replicated before its replicas confirmed";
            return Err(CallError::Unanswered(Cause::new(reason)));
        }
        Ok(confirmed.count)
    }

    fn round(&self, key: String) -> Round {
        let (link, wanted, next, turn) = (self.link.clone(), self.wanted, self.next.clone(), self.turn.clone());
        let round = async move {
            let _turn = turn.lock().await;
            next.lock().unwrap_or_else(PoisonError::into_inner).take();
            wait(link.opened(wanted.within).await?, wanted, key).await
        };
        round.boxed().shared()
    }
}

async fn wait(conn: Arc<Conn>, wanted: Replicas, key: String) -> Result<Confirmed, CallError> {
    const HOUR: Duration = Duration::from_secs(3600);
    let mut write = Args::with_capacity(4);
    write.text(key);
    write.fixed("");
    write.fixed("PX");
    write.number(u64::try_from(HOUR.as_millis()).unwrap_or(u64::MAX));
    let written = conn.command("SET", write).await;
    if written.as_ref().is_err_and(|error| error.is_refusal_with(READONLY)) {
        conn.give_up();
    }
    written?;
    let mut args = Args::with_capacity(2);
    args.number(wanted.count.into());
    args.number(u64::try_from(wanted.within.as_millis()).unwrap_or(u64::MAX));
    // The server answers in order.
    let (count, identity) = tokio::join!(
        biased;
        conn.command_within(wanted.within, "WAIT", args),
        server::identity(&conn, wanted.within)
    );
    match count? {
        Reply::Number(count) => {
            Ok(Confirmed { count: u64::try_from(count).unwrap_or_default(), identity: identity?, conn })
        }
        other => Err(CallError::Refused(format!("{other:?} to WAIT"))),
    }
}

impl std::fmt::Debug for Confirmations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Confirmations").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}
