//! `rlock break`: takes a lock away from its holders by force.

use std::io::{self, IsTerminal as _, Write as _};

use rlock::Snapshot;

use crate::args::BreakArgs;
use crate::ask::ask;
use crate::exit::Exit;
use crate::report::{self, event, report};

pub(crate) async fn break_lock(args: BreakArgs) -> Exit {
    if args.json {
        report::in_json();
    }
    let name = &args.name;
    let broken = ask(&args.store, async |client| {
        let mut confirmed = Vec::new();
        while !args.yes && io::stdin().is_terminal() {
            let snapshot = client.inspect(name).await?;
            let holders: Vec<_> = snapshot.holders.iter().map(|holder| holder.token).collect();
            if holders.is_empty() || holders == confirmed {
                break;
            }
            if !is_confirmed(&snapshot) {
                return Ok(None);
            }
            confirmed = holders; // others may have followed them while the user thought about it
        }
        client.break_leases(name).await.map(Some)
    });
    match broken.await {
        Ok(None) => {
            report!("{name} was left as it is");
            Exit::DECLINED
        }
        Ok(Some(count)) => {
            let text = match count {
                0 => format!("{name} has no holder"),
                1 => format!("broke {name}: its holder is notified; an rlock run ends its program"),
                _ => format!("broke {name}: its {count} holders are notified; an rlock run ends its program"),
            };
            event!("broken", name: name.as_str(), holders: count; "{text}");
            Exit::OK
        }
        Err(exit) => exit,
    }
}

fn is_confirmed(snapshot: &Snapshot) -> bool {
    for holder in &snapshot.holders {
        let seconds = std::time::Duration::from_secs(holder.held_for.as_secs());
        report!("{} is held by {} for {}", snapshot.resource, holder.owner, humantime::format_duration(seconds));
    }
    report::flush();
    let mut stderr = io::stderr();
    let _terminal_gone = write!(stderr, "rlock: break it? The holder may still be at work. [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
