//! The checks of a history, one file for each rule.

mod by_resource;
mod exclusion;
mod fencing;
mod found;
mod protected;
mod signals;
mod tokens;
mod waiting;

use std::time::Duration;

use by_resource::ByResource;
use found::Found;

use super::entry::What;
use super::story;
use super::timeline::Timeline;
use super::verdict::{Counts, Verdict};
use super::violation::Violation;

/// Checks `timeline` against all rules.
pub(super) fn check(timeline: &Timeline, late_allowed: Duration) -> Verdict {
    let sorted = ByResource::new(timeline);
    let mut counts = count(timeline);
    let overlaps = exclusion::check(&sorted);
    let (wrong_tokens, overtaken) = tokens::check(&sorted);
    let signals = signals::check(timeline, late_allowed);
    let unprotected = [wrong_tokens, fencing::check(timeline), signals.late, waiting::forgotten(timeline)];
    let [wrong_tokens, wrong_writes, late_signals, forgotten] = unprotected.each_ref().map(|found| found.count);
    counts = Counts { wrong_tokens, wrong_writes, late_signals, forgotten, ..counts };
    (counts.overlaps, counts.overtaken) = (overlaps.count(), overtaken.count());
    counts.in_splits = overlaps.in_splits.count + overtaken.in_splits.count;
    counts.judged_signals = signals.judged;
    counts.worst_signal = signals.worst;
    counts.worst_takeover = waiting::worst_takeover(&sorted);

    let earliest = Found::earliest(unprotected)
        .or_else(|| Found::earliest([overlaps.elsewhere, overtaken.elsewhere]))
        .or_else(|| Found::earliest([overlaps.in_splits, overtaken.in_splits]));
    let violation = earliest.map(|(_, breach, shown)| Violation {
        story: story::select(&timeline.entries, &breach, &shown),
        breach,
        more: counts.violations() - 1,
    });
    Verdict { counts, violation }
}

fn count(timeline: &Timeline) -> Counts {
    let mut counts = Counts { entries: timeline.entries.len() as u64, ..Counts::default() };
    for entry in &timeline.entries {
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
            | What::Split { .. }
            | What::End => continue,
        };
        *counter += 1;
    }
    counts
}
