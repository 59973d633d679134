//! The table of several runs, in Markdown.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use rlock_testkit::contest::{Mishap, Outcome};

const HEAD: [&str; 9] = [
    "store",
    "processes killed, frozen",
    "servers paused, killed, emptied",
    "connections cut, stalled, half open, slow, reordered",
    "locks granted",
    "locks lost",
    "overlaps that the token covers",
    "violations",
    "longest time without a holder while clients waited",
];

/// Appends a row to the table in `file`, below its head. `covered` is the number of overlaps that tokens cover.
pub(crate) fn append(file: &Path, store: &str, outcome: &Outcome, covered: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    let is_new = file.metadata()?.len() == 0;
    let head = if is_new { line(&HEAD) + &line(&["---"; HEAD.len()]) } else { String::new() };
    file.write_all((head + &row(store, outcome, covered)).as_bytes())
}

fn row(store: &str, outcome: &Outcome, covered: u64) -> String {
    let Outcome { verdict, mishaps } = outcome;
    let counts = &verdict.counts;
    let times = |kinds: &[Mishap]| {
        let of = |kind: &Mishap| mishaps.get(kind).map_or_else(|| "–".to_owned(), u64::to_string);
        kinds.iter().map(of).collect::<Vec<_>>().join(", ")
    };
    line(&[
        store,
        &times(&[Mishap::ProcessKilled, Mishap::ProcessFrozen]),
        &times(&[Mishap::ServerPaused, Mishap::ServerKilled, Mishap::DataLost]),
        &times(&[Mishap::Cut, Mishap::Stalled, Mishap::HalfOpen, Mishap::Slow, Mishap::Reordered]),
        &counts.acquisitions.to_string(),
        &counts.losses.values().sum::<u64>().to_string(),
        &covered.to_string(),
        &(counts.violations() - covered).to_string(),
        &seconds(counts.worst_takeover),
    ])
}

fn line(cells: &[&str]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use rlock_testkit::history::{Counts, Verdict};

    use super::*;

    #[test]
    fn rows_stand_below_one_head() {
        let mut counts = Counts::default();
        counts.acquisitions = 7;
        counts.losses = BTreeMap::from([("expired", 2), ("gone", 3)]);
        counts.overlaps = 1;
        counts.worst_takeover = Duration::from_millis(1_300);
        let verdict = Verdict { counts, violation: None };
        let mishaps = BTreeMap::from([(Mishap::ProcessKilled, 3), (Mishap::ProcessFrozen, 0), (Mishap::Slow, 4)]);
        let outcome = Outcome { verdict, mishaps };

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("table.md");
        append(&file, "Redis", &outcome, 0).unwrap();
        append(&file, "Sentinel", &outcome, 1).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[2], "| Redis | 3, 0 | –, –, – | –, –, –, 4, – | 7 | 5 | 0 | 1 | 1.3 s |");
        assert_eq!(lines[3], "| Sentinel | 3, 0 | –, –, – | –, –, –, 4, – | 7 | 5 | 1 | 0 | 1.3 s |");
        assert!(lines.iter().all(|line| line.matches('|').count() == HEAD.len() + 1), "{text}");
    }
}
