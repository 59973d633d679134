//! `rlock watch`: who holds what, as it changes.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rlock::{BackendError, Client, ListFilter, Snapshot, Token};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::args::WatchArgs;
use crate::ask::ask;
use crate::exit::Exit;
use crate::show::json;

/// More than a screen has lines.
const MOST: usize = 200;
/// How wide lines are where nobody can tell how wide they may be.
const PIPED: usize = 100;
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_REST: &str = "\x1b[J";
const CLEAR_LINE_REST: &str = "\x1b[K";

pub(crate) async fn watch(args: WatchArgs) -> Exit {
    let is_screen = io::stdout().is_terminal() && !args.json;
    let is_entered = Cell::new(false);
    let leave = || {
        if is_entered.take() {
            let _terminal_gone = write!(io::stdout(), "{LEAVE}").and_then(|()| io::stdout().flush());
        }
    };
    let ends = async {
        let (hangup, quit) = (SignalKind::hangup(), SignalKind::quit());
        let stop = SignalKind::from_raw(Signal::SIGTSTP as i32);
        let signals = [SignalKind::interrupt(), SignalKind::terminate(), hangup, quit, stop].map(signal);
        let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup), Ok(mut quit), Ok(mut stop)] = signals else {
            return;
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                _ = hangup.recv() => return,
                _ = quit.recv() => return,
                _ = stop.recv() => {
                    leave();
                    // The shell waits for the whole job. This returns when it is continued.
                    let _cannot_fail = kill(Pid::from_raw(0), Signal::SIGTTOU);
                }
            }
        }
    };
    let watching = ask(&args.store, async |client| {
        let mut lives = Lives::default();
        loop {
            let (snapshots, is_more) = look(client, &args.prefix).await?;
            let written = if args.json {
                let lines: String = snapshots.iter().map(|snapshot| json::line(snapshot) + "\n").collect();
                io::stdout().write_all(lines.as_bytes())
            } else {
                if is_screen {
                    let (columns, rows) = size();
                    let frame = lives.frame(&snapshots, is_more, columns, rows);
                    let enter = if is_entered.replace(true) { "" } else { ENTER };
                    let lines = frame.replace('\n', &format!("{CLEAR_LINE_REST}\r\n"));
                    write!(io::stdout(), "{enter}{HOME}{lines}{CLEAR_REST}").and_then(|()| io::stdout().flush())
                } else {
                    let frame = lives.frame(&snapshots, is_more, PIPED, usize::MAX);
                    writeln!(io::stdout(), "{frame}")
                }
            };
            if written.is_err() {
                return Ok(()); // nobody reads any more
            }
            sleep(args.interval).await;
        }
    });
    let outcome = tokio::select! {
        outcome = watching => outcome,
        () = ends => Ok(()),
    };
    leave();
    outcome.err().unwrap_or(Exit::OK)
}

/// The locks whose names begin so, and whether there are more than are shown.
async fn look(client: &Client, prefix: &str) -> Result<(Vec<Snapshot>, bool), BackendError> {
    let mut filter = ListFilter { prefix: prefix.to_owned(), after: None, limit: MOST };
    let mut snapshots = Vec::new();
    loop {
        let page = client.list(&filter).await?;
        for entry in page.entries {
            if snapshots.len() == MOST {
                return Ok((snapshots, true));
            }
            let snapshot = client.inspect(&entry.resource).await?;
            if !snapshot.is_free() {
                snapshots.push(snapshot);
            }
        }
        let Some(next) = page.next else { return Ok((snapshots, false)) };
        filter.after = Some(next);
    }
}

/// The terminal's columns, and its rows but the last, in which the cursor stands.
fn size() -> (usize, usize) {
    let (width, height) = terminal_size::terminal_size().map_or((100, 24), |(width, height)| (width.0, height.0));
    (width.into(), usize::from(height).saturating_sub(1).max(1))
}

/// The longest that each lease was seen to have left, which is about its TTL.
#[derive(Debug, Default)]
struct Lives(HashMap<Token, Duration>);

impl Lives {
    /// A line for each holder, cut to the width, as many as there are rows for.
    fn frame(&mut self, snapshots: &[Snapshot], is_more: bool, columns: usize, rows: usize) -> String {
        let held = snapshots.iter().flat_map(|snapshot| &snapshot.holders).map(|holder| holder.token);
        let held: std::collections::HashSet<_> = held.collect();
        self.0.retain(|token, _| held.contains(token));
        let width =
            snapshots.iter().map(|snapshot| snapshot.resource.as_str().chars().count()).max().unwrap_or_default();
        let width = width.clamp(4, 40);
        let mut lines = vec![format!("{:width$}  TIME LEFT        HELD FOR  QUEUED  HOLDER", "NAME")];
        for snapshot in snapshots {
            let name: String = snapshot.resource.as_str().chars().take(width).collect();
            let queued = snapshot.queue.len();
            if snapshot.holders.is_empty() {
                let nobody = if snapshot.rest.is_some() { "resting" } else { "nobody yet" };
                lines.push(format!("{name:width$}  {:15}  {:>8}  {queued:6}  {nobody}", "", ""));
            }
            for holder in &snapshot.holders {
                let life = self.0.entry(holder.token).or_default();
                *life = holder.remaining.max(*life);
                let (bar, left) = (bar(holder.remaining, *life), shortly(holder.remaining));
                let held_for = shortly(holder.held_for);
                lines.push(format!("{name:width$}  {bar} {left:>4}  {held_for:>8}  {queued:6}  {}", holder.owner));
            }
        }
        if snapshots.is_empty() {
            lines.push("nobody holds a lock or waits for one".into());
        }
        if is_more {
            lines.push(format!("there are more than these {MOST}: name a prefix"));
        }
        if lines.len() > rows {
            let hidden = lines.len() + 1 - rows;
            lines.truncate(rows - 1);
            lines.push(format!("and {hidden} lines more: make the window larger, or name a prefix"));
        }
        let cut = |line: String| line.chars().take(columns).collect::<String>();
        lines.into_iter().map(|line| cut(line) + "\n").collect()
    }
}

fn bar(left: Duration, life: Duration) -> String {
    const CELLS: u32 = 10;
    let filled = (0..CELLS).filter(|before| left > life / CELLS * *before).count();
    "█".repeat(filled) + &"░".repeat(CELLS as usize - filled)
}

/// In at most four characters: `59s`, `59m`, `23h`, `364d`.
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
    fn a_bar_shows_what_is_left_of_the_longest_that_was_seen() {
        let mut lives = Lives::default();
        let line = |frame: String| frame.lines().nth(1).unwrap().to_owned();
        let full = line(lives.frame(&[held(30)], false, 100, 9));
        assert_eq!(full, "nightly  ██████████  30s        2m       0  build-7, process 42 (report)");
        let less = line(lives.frame(&[held(6)], false, 100, 9));
        assert_eq!(less, "nightly  ██░░░░░░░░   6s        2m       0  build-7, process 42 (report)");
        assert_eq!(line(lives.frame(&[held(6)], false, 20, 9)), "nightly  ██░░░░░░░░ ");
        assert!(lives.frame(&[], false, 100, 9).contains("nobody holds"));
        assert!(lives.0.is_empty());
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let frame = Lives::default().frame(&[held(30), held(30), held(30)], false, 100, 3);
        let lines: Vec<_> = frame.lines().collect();
        assert_eq!(lines.len(), 3, "{frame}");
        assert!(lines[0].starts_with("NAME") && lines[2].starts_with("and 2 lines more"), "{frame}");
    }
}
