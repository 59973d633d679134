//! `rlock show`: who holds a lock and who waits for it.

mod json;
mod table;

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use rlock::Client;

use crate::args::ShowArgs;
use crate::exit::Exit;
use crate::report::report;

pub(crate) async fn show(args: ShowArgs) -> Exit {
    let client = match rlock::connect_with(args.store.url(), Client::builder()).await {
        Ok(client) => client,
        Err(error) => {
            report!("{error}");
            return Exit::of_connect_error(&error);
        }
    };
    let snapshot = match client.inspect(&args.name).await {
        Ok(snapshot) => snapshot,
        Err(error) => {
            report!("{error}");
            return Exit::UNAVAILABLE;
        }
    };
    let text = if args.json { json::render(&snapshot) } else { table::render(&snapshot) };
    let _reader_gone = writeln!(std::io::stdout(), "{text}");
    Exit::OK
}

/// The time that was so long `ago`, in UTC.
fn since(ago: Duration) -> String {
    let start = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(start).to_string()
}
