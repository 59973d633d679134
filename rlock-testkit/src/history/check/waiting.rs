//! Checks that no waiter is forgotten, and measures the longest wait for a resource that has no holder.

use std::time::Duration;

use super::by_resource::{ByResource, Resource};
use super::found::Found;
use crate::history::asking::Asking;
use crate::history::breach::Breach;
use crate::history::fates::{Fates, Span};
use crate::history::timeline::Timeline;

/// The waiters at the end, in processes that are alive and not frozen.
pub(super) fn forgotten(timeline: &Timeline) -> Found {
    let mut found = Found::default();
    let Some(end) = timeline.fates.end() else { return found };
    for asking in timeline.askings.iter().filter(|asking| asking.answered.is_none()) {
        let process = asking.op.process;
        let is_dead = timeline.fates.death(process, asking.asked).is_some();
        let is_frozen = timeline.fates.last_freeze(process, end).is_some_and(|freeze| freeze.to >= end);
        if is_dead || is_frozen || asking.asked > end {
            continue;
        }
        let (resource, op, waited) = (asking.resource.clone(), asking.op, end - asking.asked);
        // All waiters are found at the same instant, so this keeps them in the order of their requests.
        found.add(end, || Breach::Forgotten { resource, op, waited });
    }
    found
}

pub(super) fn worst_takeover(sorted: &ByResource<'_>) -> Duration {
    let fates = &sorted.timeline.fates;
    let end = fates.end().unwrap_or_else(|| sorted.timeline.last());
    sorted.resources.values().map(|resource| worst_takeover_of(resource, fates, end)).max().unwrap_or_default()
}

/// Changes in the number of waiters, of waiters that are awake, and of holds.
#[derive(Clone, Copy, Default)]
struct Change {
    waiting: i64,
    awake: i64,
    held: i64,
}

fn worst_takeover_of(resource: &Resource<'_>, fates: &Fates, end: Duration) -> Duration {
    const WAITING: Change = Change { waiting: 1, awake: 0, held: 0 };
    const AWAKE: Change = Change { waiting: 0, awake: 1, held: 0 };
    const HELD: Change = Change { waiting: 0, awake: 0, held: 1 };
    let mut changes = Vec::new();
    let mut add = |span: Span, change: Change| {
        let Change { waiting, awake, held } = change;
        changes.push((span.from.min(end), change));
        changes.push((span.to.min(end), Change { waiting: -waiting, awake: -awake, held: -held }));
    };
    for asking in &resource.askings {
        let waits = waits(asking, fates);
        add(waits, WAITING);
        awake(waits, fates.freezes(asking.op.process)).for_each(|span| add(span, AWAKE));
    }
    let holds = resource.askings.iter().filter_map(|asking| asking.likely_hold(fates));
    holds.for_each(|hold| add(hold, HELD));
    changes.sort_by_key(|(at, _)| *at);

    let (mut worst, mut current) = (Duration::ZERO, Duration::ZERO);
    let mut now = Change::default();
    let mut since = Duration::ZERO;
    for together in changes.chunk_by(|(one, _), (other, _)| one == other) {
        let at = together[0].0;
        if now.held > 0 || now.waiting == 0 {
            current = Duration::ZERO;
        } else if now.awake > 0 {
            current += fates.up_between(since, at);
            worst = worst.max(current);
        }
        for (_, change) in together {
            now.waiting += change.waiting;
            now.awake += change.awake;
            now.held += change.held;
        }
        since = at;
    }
    worst
}

fn waits(asking: &Asking, fates: &Fates) -> Span {
    let death = fates.death(asking.op.process, asking.asked);
    let to = asking.answered.or(death).unwrap_or(Duration::MAX);
    Span { from: asking.asked, to: to.max(asking.asked) }
}

/// The parts of `span` outside `freezes`.
fn awake(span: Span, freezes: &[Span]) -> impl Iterator<Item = Span> {
    let first = freezes.partition_point(|freeze| freeze.to <= span.from);
    let inside = freezes[first..].iter().take_while(move |freeze| freeze.from < span.to).copied();
    let ends = inside.clone().map(|freeze| freeze.from).chain([span.to]);
    let starts = [span.from].into_iter().chain(inside.map(|freeze| freeze.to));
    starts.zip(ends).filter(|(from, to)| from < to).map(|(from, to)| Span { from, to })
}
