//! `rlock wait`: returns when a lock is free.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::args::WaitArgs;
use crate::ask::ask;
use crate::exit::Exit;
use crate::report::{self, event, fact, report};
use crate::run::error::shown;
use crate::run::nested;

/// The first and the longest time between two looks. `rlock wait` does not queue: a waiter in the queue would be
/// granted the lock, and delay others.
const SOONEST: Duration = Duration::from_millis(20);
const LATEST: Duration = Duration::from_millis(500);

pub(crate) async fn wait(args: WaitArgs) -> Exit {
    if args.json {
        report::in_json();
    }
    if args.wait.is_none() && nested::is_held(&args.name, &args.store, true) {
        report!(
            "{} is held by the rlock run that this one runs in, which waits for this one: give --wait a time, or wait \
             outside of that run",
            args.name
        );
        return Exit::USAGE;
    }
    let end = args.wait.map(|wait| Instant::now() + wait);
    let is_over = || end.is_some_and(|end| Instant::now() >= end);
    let is_free = ask(&args.store, async |client| {
        let mut pause = SOONEST;
        let (mut is_said, mut is_failing) = (false, false);
        loop {
            let is_last = is_over();
            match client.inspect(&args.name).await {
                Ok(snapshot) if snapshot.is_free() => return Ok(true),
                Ok(snapshot) => {
                    is_failing = false;
                    if !std::mem::replace(&mut is_said, true) {
                        let (holders, queue) = (snapshot.holders.len(), snapshot.queue.len());
                        fact!("waiting", name: args.name.as_str(), holders: holders, queue: queue; "waiting for {}", args.name);
                    }
                }
                Err(error) if is_over() || !error.is_transient() => return Err(error),
                Err(error) if !std::mem::replace(&mut is_failing, true) => {
                    event!("unavailable", name: args.name.as_str(); "waiting for {}, and the store does not answer: {error}", args.name);
                }
                Err(_) => {}
            }
            if is_last {
                return Ok(false);
            }
            let left = end.map_or(pause, |end| end.saturating_duration_since(Instant::now()));
            sleep(left.min(pause)).await;
            pause = (pause + pause / 2).min(LATEST);
        }
    });
    match is_free.await {
        Ok(true) => Exit::OK,
        Ok(false) => {
            let waited = shown(args.wait.unwrap_or_default());
            event!("late", name: args.name.as_str(); "{} did not become free within {waited}", args.name);
            Exit::NOT_ACQUIRED
        }
        Err(exit) => exit,
    }
}
