//! A snapshot for people.

use std::time::Duration;

use rlock::{Holder, LeaseData, Owner, Snapshot, Waiter};

use super::{since, state};
use crate::text;

pub(super) fn render(snapshot: &Snapshot) -> String {
    let mut summary = format!("{} is {}", snapshot.resource, state(snapshot));
    if let Some(rest) = snapshot.rest {
        summary += &format!(", its minimum hold ends in {}", rounded(rest));
    }
    let holders = snapshot.holders.iter().map(Row::held);
    let queue = snapshot.queue.iter().zip(1..).map(|(waiter, place)| Row::queued(waiter, place));
    let rows: Vec<_> = holders.chain(queue).map(Row::cells).collect();
    if rows.is_empty() {
        return summary;
    }
    let permits = match snapshot.capacity {
        Some(capacity @ 2..) => format!(", {} of {capacity} permits held", taken(snapshot)),
        _ => String::new(),
    };
    format!("{summary}{permits}\n\n{}", aligned(rows))
}

fn taken(snapshot: &Snapshot) -> u64 {
    snapshot.holders.iter().map(|holder| u64::from(holder.weight)).sum()
}

const HEADINGS: [&str; 9] = ["", "HOST", "PROCESS", "LABEL", "PERMITS", "TOKEN", "SINCE", "TIME LEFT", "DATA"];

struct Row<'a> {
    state: String,
    owner: &'a Owner,
    weight: u32,
    token: String,
    age: Duration,
    remaining: Duration,
    data: Option<&'a LeaseData>,
}

impl<'a> Row<'a> {
    fn held(holder: &'a Holder) -> Self {
        Self {
            state: "held".into(),
            owner: &holder.owner,
            weight: holder.weight,
            token: holder.token.to_string(),
            age: holder.held_for,
            remaining: holder.remaining,
            data: holder.data.as_ref(),
        }
    }

    fn queued(waiter: &'a Waiter, place: usize) -> Self {
        Self {
            state: format!("queued {place}"),
            owner: &waiter.owner,
            weight: waiter.weight,
            token: "-".into(),
            age: waiter.waiting_for,
            remaining: waiter.remaining,
            data: waiter.data.as_ref(),
        }
    }

    fn cells(self) -> [String; HEADINGS.len()] {
        [
            self.state,
            or_dash(self.owner.host()),
            self.owner.process().to_string(),
            or_dash(self.owner.label().unwrap_or_default()),
            self.weight.to_string(),
            self.token,
            format!("{} ({} ago)", since(self.age), rounded(self.age)),
            rounded(self.remaining),
            self.data.map(shortened).unwrap_or_default(),
        ]
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

/// The beginning of the data, in one line.
fn shortened(data: &LeaseData) -> String {
    const MOST: usize = 40;
    let text = data.to_text();
    let mut shown: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// Milliseconds only where seconds would say little.
fn rounded(time: Duration) -> String {
    let millis = if time.as_secs() < 10 { time.subsec_millis() } else { 0 };
    let shown = Duration::from_secs(time.as_secs()) + Duration::from_millis(millis.into());
    humantime::format_duration(shown).to_string()
}

fn aligned(rows: Vec<[String; HEADINGS.len()]>) -> String {
    let mut headings = HEADINGS.map(String::from);
    if rows.iter().all(|row| row[HEADINGS.len() - 1].is_empty()) {
        headings[HEADINGS.len() - 1].clear(); // no lease carries data
    }
    let table: Vec<_> = std::iter::once(headings).chain(rows).collect();
    let width = |column: usize| table.iter().map(|row| text::width(&row[column])).max().unwrap_or_default();
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(width);
    let line = |row: &[String; HEADINGS.len()]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| text::padded(cell, width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use rlock::{ResourceName, Token};

    use super::*;

    #[test]
    fn columns_stand_under_their_headings() {
        let snapshot = Snapshot {
            resource: ResourceName::new("pool").unwrap(),
            capacity: Some(5),
            holders: vec![Holder {
                owner: Owner::from_record("build-7\u{1f}42\u{1f}büro 7"),
                token: Token::new(9),
                weight: 3,
                held_for: Duration::from_millis(65_432),
                remaining: Duration::from_millis(1_234),
                data: None,
            }],
            queue: vec![Waiter {
                owner: Owner::from_record(""),
                weight: 4,
                waiting_for: Duration::ZERO,
                remaining: Duration::from_secs(30),
                data: None,
            }],
            rest: None,
        };
        let text = render(&snapshot);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "pool is held, 3 of 5 permits held");
        assert_eq!(&lines[2][..57], "          HOST     PROCESS  LABEL   PERMITS  TOKEN  SINCE");
        assert!(lines[3].starts_with("held      build-7  42       büro 7  3        9      "), "{text}");
        assert!(lines[3].ends_with(" (1m 5s ago)  1s 234ms"), "{text}");
        assert!(lines[4].starts_with("queued 1  -        0        -       4        -      "), "{text}");
        assert!(lines[4].ends_with(" (0s ago)     30s"), "{text}");
    }

    #[test]
    fn rests_and_data_are_shown() {
        let resource = ResourceName::new("pool").unwrap();
        let rest = Some(Duration::from_secs(5));
        let mut snapshot = Snapshot { resource, capacity: Some(2), holders: Vec::new(), queue: Vec::new(), rest };
        assert_eq!(render(&snapshot), "pool is resting, its minimum hold ends in 5s");
        snapshot.holders.push(Holder {
            owner: Owner::from_record(""),
            token: Token::new(9),
            weight: 1,
            held_for: Duration::ZERO,
            remaining: Duration::from_secs(30),
            data: Some(LeaseData::new(format!("10.0.0.7:80\n{}", "x".repeat(40))).unwrap()),
        });
        let text = render(&snapshot);
        assert!(text.starts_with("pool is held, its minimum hold ends in 5s, 1 of 2 permits held\n"), "{text}");
        assert!(text.lines().nth(2).unwrap().ends_with("TIME LEFT  DATA"), "{text}");
        assert!(text.ends_with(&format!("30s        10.0.0.7:80\\n{}…", "x".repeat(28))), "{text}");
    }
}
