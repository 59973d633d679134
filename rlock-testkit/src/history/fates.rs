//! The faults in a history: deaths, freezes, starvation, outages, splits and breaks.

use std::collections::HashMap;
use std::time::Duration;

use rlock_core::ResourceName;

use super::entry::{Entry, What};

/// A span of time. An end that was not noted is [`Duration::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// The faults of the processes, of the store and of the resources.
#[derive(Debug, Clone, Default)]
pub(super) struct Fates {
    processes: HashMap<u32, Process>,
    downs: Vec<Span>,
    /// The total downtime of the store before each of `downs`.
    down_before: Vec<Duration>,
    splits: Vec<Span>,
    breaks: HashMap<ResourceName, Vec<Duration>>,
    end: Option<Duration>,
}

#[derive(Debug, Clone, Default)]
struct Process {
    deaths: Vec<Duration>,
    freezes: Vec<Span>,
    starvations: Vec<Span>,
}

impl Fates {
    /// Collects the faults in `entries`, which are sorted.
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut fates = Self::default();
        for Entry { at, what } in entries {
            match what {
                What::Died { process } => {
                    let process = fates.processes.entry(*process).or_default();
                    close(&mut process.freezes, *at);
                    process.deaths.push(*at);
                }
                What::Frozen { process } => open(&mut fates.processes.entry(*process).or_default().freezes, *at),
                What::Woken { process } => close(&mut fates.processes.entry(*process).or_default().freezes, *at),
                What::Starved { process, since } => {
                    let span = Span { from: *since, to: *at };
                    fates.processes.entry(*process).or_default().starvations.push(span);
                }
                What::Down => open(&mut fates.downs, *at),
                What::Up => close(&mut fates.downs, *at),
                What::Split { since, until } => fates.splits.push(Span { from: *since, to: *until }),
                What::Breaking { resource } => fates.breaks.entry(resource.clone()).or_default().push(*at),
                What::End => fates.end = Some(*at),
                _ => {}
            }
        }
        let mut total = Duration::ZERO;
        for down in &fates.downs {
            fates.down_before.push(total);
            total = total.saturating_add(down.to - down.from);
        }
        fates
    }

    /// The first death of the process at or after `asked`.
    pub(super) fn death(&self, process: u32, asked: Duration) -> Option<Duration> {
        let deaths = &self.processes.get(&process)?.deaths;
        deaths.get(deaths.partition_point(|&death| death < asked)).copied()
    }

    /// The spans in which the process was frozen, in order.
    pub(super) fn freezes(&self, process: u32) -> &[Span] {
        self.processes.get(&process).map_or(&[], |process| &process.freezes)
    }

    /// The last freeze of the process that began before `before`.
    pub(super) fn last_freeze(&self, process: u32, before: Duration) -> Option<Span> {
        let freezes = self.freezes(process);
        let begun = freezes.partition_point(|freeze| freeze.from < before);
        Some(freezes[begun.checked_sub(1)?])
    }

    /// The last end of a starvation of the process that overlaps the span from `from` to `to`.
    pub(super) fn ran_again(&self, process: u32, from: Duration, to: Duration) -> Option<Duration> {
        let starvations = self.processes.get(&process)?.starvations.iter();
        let during = starvations.rev().take_while(|span| span.to > from).filter(|span| span.from < to);
        during.map(|span| span.to).max()
    }

    /// The first instant, `from` or later, at which the leases of `resource` were broken by force.
    pub(super) fn first_break(&self, resource: &ResourceName, from: Duration) -> Option<Duration> {
        let breaks = self.breaks.get(resource)?;
        breaks.get(breaks.partition_point(|&at| at < from)).copied()
    }

    /// Whether the store may be split at this instant, or leases of a split may be alive.
    pub(super) fn is_split(&self, at: Duration) -> bool {
        self.splits.iter().any(|split| (split.from..=split.to).contains(&at))
    }

    /// The end of the recording, if it was noted.
    pub(super) fn end(&self) -> Option<Duration> {
        self.end
    }

    /// The time between `from` and `to` in which the store was up.
    pub(super) fn up_between(&self, from: Duration, to: Duration) -> Duration {
        to - from - (self.down_until(to) - self.down_until(from))
    }

    fn down_until(&self, at: Duration) -> Duration {
        let begun = self.downs.partition_point(|down| down.from < at);
        let Some(last) = begun.checked_sub(1) else { return Duration::ZERO };
        self.down_before[last] + (self.downs[last].to.min(at) - self.downs[last].from)
    }
}

fn open(spans: &mut Vec<Span>, from: Duration) {
    if spans.last().is_none_or(|last| last.to != Duration::MAX) {
        spans.push(Span { from, to: Duration::MAX });
    }
}

fn close(spans: &mut [Span], to: Duration) {
    if let Some(last) = spans.last_mut().filter(|last| last.to == Duration::MAX) {
        last.to = to;
    }
}
