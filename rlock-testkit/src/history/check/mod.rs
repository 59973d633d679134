//! The checks of a history, one file for each rule.

mod exclusion;
mod fencing;
mod signals;
mod tokens;
mod waiting;

use std::collections::BTreeMap;
use std::time::Duration;

use rlock_core::ResourceName;

use super::History;
use super::asking::Asking;
use super::entry::What;
use super::fates::Span;
use super::story;
use super::verdict::{Counts, Verdict};
use super::violation::{Breach, Violation};

/// The history, sorted by resource for the checks.
struct Case<'a> {
    history: &'a History,
    resources: BTreeMap<&'a ResourceName, Resource<'a>>,
}

/// The attempts and the holds of one resource.
struct Resource<'a> {
    name: &'a ResourceName,
    /// Sorted by the instant of the request.
    askings: Vec<&'a Asking>,
    /// Sorted by their start.
    holds: Vec<Hold<'a>>,
}

#[derive(Clone, Copy)]
struct Hold<'a> {
    asking: &'a Asking,
    span: Span,
    token: u64,
}

/// The earliest of the violations of one rule, and their number.
#[derive(Default)]
struct Found {
    count: u64,
    earliest: Option<FoundAt>,
}

/// The instant, the breach, and the indices of the entries that show it.
type FoundAt = (Duration, Breach, Vec<usize>);

impl Found {
    fn earliest(all: impl IntoIterator<Item = Self>) -> Option<FoundAt> {
        all.into_iter().filter_map(|found| found.earliest).min_by_key(|(at, ..)| *at)
    }

    /// Adds a violation at `at`.
    fn add(&mut self, at: Duration, breach: impl FnOnce() -> Breach) {
        self.add_shown(at, || (breach(), Vec::new()));
    }

    /// Adds a violation at `at`, with the indices of the entries that show it.
    fn add_shown(&mut self, at: Duration, breach: impl FnOnce() -> (Breach, Vec<usize>)) {
        self.count += 1;
        if self.earliest.as_ref().is_none_or(|(earliest, ..)| at < *earliest) {
            let (breach, shown) = breach();
            self.earliest = Some((at, breach, shown));
        }
    }
}

/// Checks `history` against all rules.
pub(super) fn check(history: &History, late_allowed: Duration) -> Verdict {
    let case = Case::new(history);
    let mut counts = count(history);
    let (wrong_tokens, overtaken) = tokens::check(&case);
    let protected = [exclusion::check(&case), overtaken];
    let unprotected =
        [wrong_tokens, fencing::check(history), signals::check(history, late_allowed), waiting::forgotten(history)];
    let [overlaps, overtaken] = protected.each_ref().map(|found| found.count);
    let [wrong_tokens, wrong_writes, late_signals, forgotten] = unprotected.each_ref().map(|found| found.count);
    counts = Counts { overlaps, overtaken, wrong_tokens, wrong_writes, late_signals, forgotten, ..counts };
    counts.worst_takeover = waiting::worst_takeover(&case);

    let earliest = Found::earliest(unprotected).or_else(|| Found::earliest(protected));
    let violation = earliest.map(|(_, breach, shown)| Violation {
        story: story::select(history.entries(), &breach, &shown),
        breach,
        more: counts.violations() - 1,
    });
    Verdict { counts, violation }
}

impl<'a> Case<'a> {
    fn new(history: &'a History) -> Self {
        let mut resources: BTreeMap<&ResourceName, Resource<'a>> = BTreeMap::new();
        for asking in &history.askings {
            let name = &asking.resource;
            let new = || Resource { name, askings: Vec::new(), holds: Vec::new() };
            let resource = resources.entry(name).or_insert_with(new);
            resource.askings.push(asking);
            if let (Some(span), Some(grant)) = (asking.hold(&history.fates), asking.grant) {
                resource.holds.push(Hold { asking, span, token: grant.token });
            }
        }
        for resource in resources.values_mut() {
            resource.holds.sort_by_key(|hold| hold.span.from);
        }
        Self { history, resources }
    }
}

fn count(history: &History) -> Counts {
    let mut counts = Counts { entries: history.entries().len() as u64, ..Counts::default() };
    for entry in history.entries() {
        let counter = match &entry.what {
            What::Granted { .. } => &mut counts.acquisitions,
            What::Refused { .. } => &mut counts.refusals,
            What::Unknown { .. } => &mut counts.unknowns,
            What::Lost { reason, .. } => counts.losses.entry(reason.as_str()).or_default(),
            What::Released { known: true, .. } => &mut counts.releases,
            What::Released { known: false, .. } => &mut counts.unknown_releases,
            What::Opened { .. } => &mut counts.opens,
            What::OpenRefused { .. } => &mut counts.refused_opens,
            What::Wrote { .. } => &mut counts.writes,
            What::WriteRefused { .. } => &mut counts.refused_writes,
            What::Breaking { .. } => &mut counts.breaks,
            What::Died { .. } => &mut counts.deaths,
            What::Frozen { .. } => &mut counts.freezes,
            What::Starved { .. } => &mut counts.starvations,
            What::Down => &mut counts.downs,
            What::Asked { .. }
            | What::Believed { .. }
            | What::Releasing { .. }
            | What::Woken { .. }
            | What::Up
            | What::End => continue,
        };
        *counter += 1;
    }
    counts
}
