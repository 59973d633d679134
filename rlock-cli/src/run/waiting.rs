//! Reports of a waiter: the holder and the place in the queue.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use rlock::{BackendError, Client, Owner, ResourceName, Snapshot};
use tokio::time::{sleep, timeout};

use crate::args::LockArgs;
use crate::report::{self, event};

/// A wait is reported after this time.
const UNREMARKABLE: Duration = Duration::from_millis(100);
/// The time between two updates of the place in the queue, on a terminal.
const REFRESH: Duration = Duration::from_secs(1);
/// The shortest time between two looks without a terminal, which check that the store still answers.
const LOOK: Duration = Duration::from_secs(5);
/// The time limit of the last look, after the wait is over.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// Reports once that rlock waits, and each time that the store stops answering or answers again. On a terminal, shows
/// the place in the queue.
pub(super) async fn announce(args: &LockArgs, name: &ResourceName, client: &Client) {
    sleep(UNREMARKABLE).await;
    let mut is_failing = false;
    match client.inspect(name).await {
        Ok(snapshot) => {
            let (holders, queue) = (snapshot.holders.len(), snapshot.queue.len());
            let by = if holders > 0 { format!(", {}; {queue} in the queue", held(&snapshot)) } else { String::new() };
            event!("waiting", name: name.as_str(), holders: holders, queue: queue; "waiting for {name}{by}");
        }
        Err(error) => {
            is_failing = true;
            event!("unavailable", name: name.as_str(); "waiting for {name}, and the store does not answer: {error}");
        }
    }
    let is_shown = io::stderr().is_terminal() && !args.quiet;
    let every = if is_shown { REFRESH } else { LOOK.max(args.ttl.get() / 3) };
    let own = Owner::current().with_label(args.label.as_deref().unwrap_or_default());
    loop {
        sleep(every).await;
        match client.inspect(name).await {
            Ok(snapshot) => {
                if std::mem::take(&mut is_failing) {
                    event!("waiting", name: name.as_str(); "the store answers again; waiting for {name}");
                }
                if !snapshot.holders.is_empty() {
                    let place = snapshot.queue.iter().position(|waiter| waiter.owner == own);
                    let place = place.map_or_else(|| "in the queue".into(), |place| format!("place {}", place + 1));
                    let len = snapshot.queue.len();
                    report::pass(&format!("waiting for {name}: {place} of {len}, {}", held(&snapshot)));
                }
            }
            Err(error) if !std::mem::replace(&mut is_failing, true) => {
                event!("unavailable", name: name.as_str(); "waiting for {name}, and the store does not answer: {error}");
            }
            Err(_) => {}
        }
    }
}

/// Describes the holders, for people.
///
/// # Errors
///
/// The store's error, or `None` if it does not answer within [`LAST_LOOK`].
pub(super) async fn holders(name: &ResourceName, client: &Client) -> Result<String, Option<BackendError>> {
    let snapshot = timeout(LAST_LOOK, client.inspect(name)).await.map_err(|_| None)??;
    if !snapshot.holders.is_empty() {
        return Ok(held(&snapshot));
    }
    let rest = snapshot.rest.map(|rest| format!("taken for {} more (minimum hold)", super::error::shown(rest)));
    Ok(rest.unwrap_or_else(|| "held by others".into()))
}

/// Names the first holder, the number of the others, and the time since the grant.
fn held(snapshot: &Snapshot) -> String {
    let seconds = |time: Duration| humantime::format_duration(Duration::from_secs(time.as_secs()));
    let others = match snapshot.holders.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let first = snapshot.holders.first();
    first
        .map_or_else(String::new, |holder| format!("held by {}{others} for {}", holder.owner, seconds(holder.held_for)))
}
