//! `rlock watch`: holders and waiters as they change.

mod screen;

use std::collections::HashMap;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use rlock::{BackendError, Client, ListFilter, Snapshot, Token};
use tokio::time::sleep;

use self::screen::Screen;
use crate::args::WatchArgs;
use crate::ask::ask;
use crate::exit::Exit;
use crate::output::print;
use crate::report::report;
use crate::show::json;
use crate::text;

/// The most locks that are shown, more than a screen has lines.
const MOST: usize = 200;
/// The columns beside the name, with room for an owner.
const OTHERS: usize = 62;

pub(crate) async fn watch(args: WatchArgs) -> Exit {
    let screen = Screen::new(io::stdout().is_terminal() && !args.json);
    let watching = ask(&args.store, async |client| {
        let mut lives = Lives::default();
        loop {
            let (columns, rows) = screen.size();
            let (text, is_frame) = match look(client, &args.prefix).await {
                Ok((snapshots, _)) if args.json => {
                    (snapshots.iter().map(|snapshot| json::line(snapshot) + "\n").collect(), false)
                }
                Ok((snapshots, is_more)) => (lives.frame(&snapshots, is_more, columns, rows), true),
                Err(error) if !error.is_transient() => return Err(error),
                Err(error) if args.json || !screen.is_there => {
                    report!("{error}; looking again");
                    (String::new(), false)
                }
                Err(error) => (format!("{}\n", text::cut(&format!("{error}; looking again"), columns)), true),
            };
            let written = if is_frame { screen.show(&text) } else { print(&text) };
            if let Err(exit) = written {
                return Ok(exit);
            }
            sleep(args.interval).await;
        }
    });
    let outcome = tokio::select! {
        outcome = watching => outcome,
        () = screen.ends() => Ok(Exit::OK),
    };
    screen.leave();
    outcome.unwrap_or_else(|exit| exit)
}

/// The locks whose names begin with `prefix`, up to [`MOST`], and whether there are more.
async fn look(client: &Client, prefix: &str) -> Result<(Vec<Snapshot>, bool), BackendError> {
    let mut filter = ListFilter { prefix: prefix.to_owned(), after: None, limit: MOST };
    let mut snapshots = Vec::new();
    loop {
        let page = client.list(&filter).await?;
        for entry in page.entries {
            if snapshots.len() == MOST {
                return Ok((snapshots, true));
            }
            let snapshot = client.inspect(entry.resource).await?;
            if !snapshot.is_free() {
                snapshots.push(snapshot);
            }
        }
        let Some(next) = page.next else { return Ok((snapshots, false)) };
        filter.after = Some(next);
    }
}

/// The longest time left that was seen of each lease, which is about its TTL.
#[derive(Debug, Default)]
struct Lives(HashMap<Token, Duration>);

impl Lives {
    /// A line for each holder, cut to `columns`, up to `rows` lines.
    fn frame(&mut self, snapshots: &[Snapshot], is_more: bool, columns: usize, rows: usize) -> String {
        let held = snapshots.iter().flat_map(|snapshot| &snapshot.holders).map(|holder| holder.token);
        let held: std::collections::HashSet<_> = held.collect();
        self.0.retain(|token, _| held.contains(token));
        let width = snapshots.iter().map(|snapshot| text::width(snapshot.resource.as_str())).max().unwrap_or_default();
        let width = width.clamp(4, columns.saturating_sub(OTHERS).clamp(12, 40));
        let mut lines = vec![format!("{:width$}  TIME LEFT        HELD  WAIT  HOLDER", "NAME")];
        for snapshot in snapshots {
            let name = text::padded(text::cut(snapshot.resource.as_str(), width), width);
            let queued = snapshot.queue.len();
            if snapshot.holders.is_empty() {
                let holder = if snapshot.rest.is_some() { "resting" } else { "none yet" };
                lines.push(format!("{name}  {:15}  {:>4}  {queued:4}  {holder}", "", ""));
            }
            for holder in &snapshot.holders {
                let life = self.0.entry(holder.token).or_default();
                *life = holder.remaining.max(*life);
                let (bar, left) = (bar(holder.remaining, *life), shortly(holder.remaining));
                let held_for = shortly(holder.held_for);
                lines.push(format!("{name}  {bar} {left:>4}  {held_for:>4}  {queued:4}  {}", holder.owner));
            }
        }
        if snapshots.is_empty() {
            lines.push("no lock is held or waited for".into());
        }
        if is_more {
            lines.push(format!("there are more than these {MOST}: name a prefix"));
        }
        if lines.len() > rows {
            let hidden = lines.len() + 1 - rows;
            lines.truncate(rows - 1);
            lines.push(format!("and {hidden} lines more: make the window larger, or name a prefix"));
        }
        lines.into_iter().map(|line| text::cut(&line, columns).to_owned() + "\n").collect()
    }
}

fn bar(left: Duration, life: Duration) -> String {
    const CELLS: u32 = 10;
    let filled = (0..CELLS).filter(|before| left > life / CELLS * *before).count();
    "█".repeat(filled) + &"░".repeat(CELLS as usize - filled)
}

/// A time in at most four characters: `59s`, `59m`, `23h`, `364d`.
fn shortly(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use rlock::{Holder, Owner, ResourceName};

    use super::*;

    fn held(remaining: u64) -> Snapshot {
        Snapshot {
            resource: ResourceName::new("nightly").unwrap(),
            capacity: Some(1),
            holders: vec![Holder {
                owner: Owner::from_record("build-7\u{1f}42\u{1f}report"),
                token: Token::new(9),
                weight: 1,
                held_for: Duration::from_secs(150),
                remaining: Duration::from_secs(remaining),
                data: None,
            }],
            queue: Vec::new(),
            rest: None,
        }
    }

    #[test]
    fn bar_shows_the_share_of_the_longest_time() {
        let mut lives = Lives::default();
        let line = |frame: String| frame.lines().nth(1).unwrap().to_owned();
        let full = line(lives.frame(&[held(30)], false, 100, 9));
        assert_eq!(full, "nightly  ██████████  30s    2m     0  build-7, process 42 (report)");
        let less = line(lives.frame(&[held(6)], false, 100, 9));
        assert_eq!(less, "nightly  ██░░░░░░░░   6s    2m     0  build-7, process 42 (report)");
        assert_eq!(line(lives.frame(&[held(6)], false, 20, 9)), "nightly  ██░░░░░░░░ ");
        assert!(lives.frame(&[], false, 100, 9).contains("no lock is held"));
        assert!(lives.0.is_empty());
    }

    #[test]
    fn wide_names_keep_the_columns() {
        let mut wide = held(30);
        wide.resource = ResourceName::new("日報").unwrap();
        let frame = Lives::default().frame(&[wide, held(30)], false, 80, 9);
        let lines: Vec<_> = frame.lines().collect();
        assert_eq!(lines[1], "日報     ██████████  30s    2m     0  build-7, process 42 (report)");
        assert!(lines[2].starts_with("nightly  ██████████  30s"), "{frame}");
    }

    #[test]
    fn long_name_leaves_room_at_80_columns() {
        let mut long = held(30);
        long.resource = ResourceName::new("n".repeat(60)).unwrap();
        let frame = Lives::default().frame(&[long], false, 80, 9);
        let expected = format!("{}  ██████████  30s    2m     0  build-7, process 42 (report)", "n".repeat(18));
        assert_eq!(frame.lines().nth(1), Some(&*expected), "{frame}");
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let frame = Lives::default().frame(&[held(30), held(30), held(30)], false, 100, 3);
        let lines: Vec<_> = frame.lines().collect();
        assert_eq!(lines.len(), 3, "{frame}");
        assert!(lines[0].starts_with("NAME") && lines[2].starts_with("and 2 lines more"), "{frame}");
    }
}
