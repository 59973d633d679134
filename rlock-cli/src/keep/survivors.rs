//! Processes of the tree, for a message.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Processes of the tree: the first of them, and the number of the others. The socket takes no line with thousands of
/// processes at once, and the reader would get only the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Survivors {
    first: Vec<Survivor>,
    more: usize,
}

/// A process of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Survivor {
    pub(super) pid: i32,
    /// Its start time, as a later process may have the same number.
    pub(super) started: u64,
    pub(super) name: String,
}

impl Survivors {
    /// The maximum number of processes in a message.
    const LISTED: usize = 20;

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.more == 0
    }

    /// The process ids of the first of them.
    pub(crate) fn pids(&self) -> Vec<i32> {
        self.first.iter().map(|process| process.pid).collect()
    }

    /// The number of those without a process id here.
    pub(crate) fn more(&self) -> usize {
        self.more
    }

    /// The same processes with their present names, without those of the first that have ended.
    pub(crate) fn renamed(self) -> Self {
        Self { first: self.first.into_iter().filter_map(Survivor::renamed).collect(), more: self.more }
    }
}

impl FromIterator<Survivor> for Survivors {
    /// Reads the iterator to its end.
    fn from_iter<I: IntoIterator<Item = Survivor>>(processes: I) -> Self {
        let mut processes = processes.into_iter();
        let first = processes.by_ref().take(Self::LISTED).collect();
        Self { first, more: processes.count() }
    }
}

impl fmt::Display for Survivors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: usize = 3;
        let named = self.first.iter().take(NAMED).map(|Survivor { pid, name, .. }| format!("{name} ({pid})"));
        let named = named.collect::<Vec<_>>().join(", ");
        match (self.first.len().saturating_sub(NAMED) + self.more, named.is_empty()) {
            (0, _) => f.write_str(&named),
            (more, true) => write!(f, "{more} processes"),
            (more, false) => write!(f, "{named} and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep::{News, to_line};

    fn processes(count: i32, name: &str) -> Survivors {
        (1..=count).map(|pid| Survivor { pid, started: u64::MAX, name: name.to_owned() }).collect()
    }

    #[test]
    fn thousands_of_processes_fit_one_short_line() {
        let name = "\u{1}".repeat(15); // the longest name, of characters that take six bytes each in JSON
        let news = News::Left(processes(5_000, &name));
        let line = to_line(&news);
        assert!(line.len() < 4096, "{} bytes", line.len());
        assert_eq!(serde_json::from_str::<News>(&line).unwrap(), news);
    }

    #[test]
    fn those_without_a_name_are_counted() {
        for (count, text) in
            [(0, ""), (1, "a (1)"), (3, "a (1), a (2), a (3)"), (5_000, "a (1), a (2), a (3) and 4997 more")]
        {
            let processes = processes(count, "a");
            assert_eq!(processes.to_string(), text);
            assert_eq!(processes.is_empty(), count == 0);
        }
        assert_eq!(processes(5_000, "a").pids(), (1..=20).collect::<Vec<_>>());
        assert_eq!(Survivors { first: Vec::new(), more: 2 }.to_string(), "2 processes");
    }
}
