//! `rlock show`: who holds a lock and who waits for it.

pub(crate) mod json;
mod table;

use std::time::{Duration, SystemTime};

use rlock::Snapshot;

use crate::args::ShowArgs;
use crate::ask::ask;
use crate::exit::Exit;
use crate::output::print;

pub(crate) async fn show(args: ShowArgs) -> Exit {
    let snapshot = match ask(&args.store, async |client| client.inspect(&args.name).await).await {
        Ok(snapshot) => snapshot,
        Err(exit) => return exit,
    };
    let text = if args.json { json::render(&snapshot) } else { table::render(&snapshot) };
    print(&(text + "\n")).err().unwrap_or(Exit::OK)
}

fn state(snapshot: &Snapshot) -> &'static str {
    match (snapshot.holders.is_empty(), snapshot.rest) {
        (false, _) => "held",
        (true, Some(_)) => "resting",
        (true, None) => "free",
    }
}

/// The time `ago` before now, in UTC.
pub(crate) fn since(ago: Duration) -> String {
    let start = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(start).to_string()
}
