//! `rlock wait`: returns when a lock is free.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::args::WaitArgs;
use crate::ask::ask;
use crate::exit::Exit;
use crate::report::{self, event};

/// Between looks, at first and at most. Nobody queues: whoever does has to be granted the lock, and others wait meanwhile.
const SOONEST: Duration = Duration::from_millis(20);
const LATEST: Duration = Duration::from_millis(500);

pub(crate) async fn wait(args: WaitArgs) -> Exit {
    if args.json {
        report::in_json();
    }
    let end = args.wait.map(|wait| Instant::now() + wait);
    let is_free = ask(&args.store, async |client| {
        let mut pause = SOONEST;
        loop {
            if client.inspect(&args.name).await?.is_free() {
                return Ok(true);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            sleep(left.map_or(pause, |left| left.min(pause))).await;
            pause = (pause + pause / 2).min(LATEST);
        }
    });
    match is_free.await {
        Ok(true) => Exit::OK,
        Ok(false) => {
            event!("late", name: args.name.as_str(); "{} did not get free in time", args.name);
            Exit::NOT_ACQUIRED
        }
        Err(exit) => exit,
    }
}
