//! The story of a breach: the entries that show it, as text.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::breach::Breach;
use super::entry::{Entry, Op, What};

/// The entries that show `breach`: those at the indices in `shown`, or, if `shown` is empty, all that belong to the
/// attempts of the breach.
pub(super) fn select(entries: &[Entry], breach: &Breach, shown: &[usize]) -> Vec<Entry> {
    let positions = if shown.is_empty() { positions(entries, breach) } else { shown.iter().copied().collect() };
    positions.into_iter().map(|position| entries[position].clone()).collect()
}

fn positions(entries: &[Entry], breach: &Breach) -> BTreeSet<usize> {
    let mut positions = BTreeSet::new();
    let mut keep = |is_wanted: &dyn Fn(&What) -> bool| {
        let wanted = entries.iter().enumerate().filter(|(_, entry)| is_wanted(&entry.what));
        positions.extend(wanted.map(|(position, _)| position));
    };
    let of = |what: &What, op: Op| what.op() == Some(op);
    match breach {
        Breach::Overlap { ops, .. } => {
            let ops: HashSet<Op> = ops.iter().copied().collect();
            let of_them = |what: &What| what.op().is_some_and(|op| ops.contains(&op));
            keep(&|what| of_them(what) && (is_asked(what) || is_granted(what) || is_end_of_hold(what)));
        }
        Breach::TokenTwice { first, second, .. } => {
            keep(&|what| is_granted(what) && (of(what, *first) || of(what, *second)));
        }
        Breach::TokenBack { earlier, later, .. } | Breach::Overtaken { by: earlier, op: later, .. } => {
            keep(&|what| is_granted(what) && (of(what, *earlier) || of(what, *later)));
            keep(&|what| is_asked(what) && of(what, *later));
        }
        Breach::Forgotten { op, .. } => keep(&|what| *what == What::End || (is_asked(what) && of(what, *op))),
        Breach::LateSignal { op, .. } => keep(&|what| of(what, *op) && (is_granted(what) || is_end_of_hold(what))),
        Breach::RegisterBack { .. } | Breach::RegisterGap { .. } => {}
    }
    if let Breach::Overlap { ops, .. } = breach {
        positions.extend(ops.iter().filter_map(|op| last_belief(entries, *op)));
    }
    if let Breach::LateSignal { op, .. } = breach {
        positions.extend(last_belief(entries, *op));
    }
    positions.extend(fates_between(entries, breach, &positions));
    positions
}

fn last_belief(entries: &[Entry], of: Op) -> Option<usize> {
    entries.iter().rposition(|entry| matches!(entry.what, What::Believed { op, .. } if op == of))
}

/// The faults of the processes of the entries at `positions`, and of the resource that they held. The span begins at the
/// first grant among these entries, or else at the first entry, and ends at the last one. Breaches of tokens need no
/// faults.
fn fates_between(entries: &[Entry], breach: &Breach, positions: &BTreeSet<usize>) -> Vec<usize> {
    let is_about_time = matches!(breach, Breach::Overlap { .. } | Breach::Forgotten { .. } | Breach::LateSignal { .. });
    let granted = positions.iter().find(|position| is_granted(&entries[**position].what));
    let first = granted.or_else(|| positions.first());
    let (Some(&first), Some(&last), true) = (first, positions.last(), is_about_time) else { return Vec::new() };
    let processes: HashSet<u32> =
        positions.iter().filter_map(|position| Some(entries[*position].what.op()?.process)).collect();
    let is_fate = |what: &What| match what {
        What::Died { process } | What::Frozen { process } | What::Woken { process } | What::Starved { process, .. } => {
            processes.contains(process)
        }
        What::Breaking { resource } => matches!(breach, Breach::Overlap { resource: held, .. } if held == resource),
        _ => false,
    };
    (first..=last).filter(|position| is_fate(&entries[*position].what)).collect()
}

fn is_asked(what: &What) -> bool {
    matches!(what, What::Asked { .. })
}

fn is_granted(what: &What) -> bool {
    matches!(what, What::Granted { .. })
}

fn is_end_of_hold(what: &What) -> bool {
    matches!(what, What::Releasing { .. } | What::Lost { .. })
}

/// Formats the story, and the rule that it breaks. `more` is the number of further violations.
pub(super) fn render(story: &[Entry], breach: &Breach, more: u64) -> String {
    let start = story.first().map_or(Duration::ZERO, |entry| entry.at);
    let mut text = String::new();
    for entry in story {
        let written = writeln!(text, "{:>12} ms  {}", after(entry.at, start), happened(&entry.what, start));
        written.expect("a string can be written to");
    }
    text.push_str(&rule(breach));
    match more {
        0 => {}
        1 => text.push_str(" There is one more violation."),
        more => _ = write!(text, " There are {more} more violations."),
    }
    text
}

fn happened(what: &What, start: Duration) -> String {
    match what {
        What::Asked { op, resource, share } => {
            format!("{op} asks for {} of {} of {resource:?}", share.weight(), share.capacity())
        }
        What::Granted { op, token, until } => {
            format!("{op} is granted it with token {token}, until {} ms", after(*until, start))
        }
        What::Believed { op, until } => format!("{op} still holds it, until {} ms", after(*until, start)),
        What::Refused { op } => format!("{op} is refused"),
        What::Unknown { op } => format!("{op} never hears an answer"),
        What::Lost { op, reason, until: None } => format!("{op} sees that it has lost it: {reason}"),
        What::Lost { op, reason, until: Some(until) } => {
            format!("{op} sees that it has lost it, which it had until {} ms: {reason}", after(*until, start))
        }
        What::Releasing { op } => format!("{op} gives it back"),
        What::Released { op, known: true } => format!("{op} hears that it is released"),
        What::Released { op, known: false } => format!("{op} does not hear whether it is released"),
        What::Opened { op, resource, token, value } => {
            format!("{op} opens the register of {resource:?} with token {token}, and reads {value}")
        }
        What::OpenRefused { op, resource, token } => {
            format!("{op} cannot open the register of {resource:?} with token {token}")
        }
        What::Wrote { op, resource, token, base, value } => {
            format!("{op} writes {value} over {base} to the register of {resource:?} with token {token}")
        }
        What::WriteRefused { op, resource, token } => {
            format!("{op} cannot write to the register of {resource:?} with token {token}")
        }
        What::Breaking { resource } => format!("the leases of {resource:?} are ended by force"),
        What::Died { process } => format!("process {process} is dead"),
        What::Frozen { process } => format!("process {process} is frozen"),
        What::Woken { process } => format!("process {process} goes on"),
        What::Starved { process, since } => {
            format!("process {process} runs again, as it did not since {}", after(*since, start))
        }
        What::Down => "the store goes down".into(),
        What::Up => "the store is up".into(),
        What::Split { since, until } => {
            let (since, until) = (after(*since, start), after(*until, start));
            format!("an old primary may have granted since {since}, with leases until {until} ms")
        }
        What::End => "the end".into(),
    }
}

fn rule(breach: &Breach) -> String {
    match breach {
        Breach::Overlap { resource, ops, weight, capacity, overlap } => {
            let ops: Vec<String> = ops.iter().map(Op::to_string).collect();
            let (ops, overlap) = (ops.join(" and "), millis(*overlap));
            let held = format!("{ops} held {weight} of {capacity} of {resource:?} at the same time");
            format!("Contract rule 1 (exclusion) is broken: {held}, for {overlap} ms at least.")
        }
        Breach::TokenTwice { resource, token, first, second } => {
            format!("Contract rule 3 (tokens) is broken: {first} and {second} both got token {token} of {resource:?}.")
        }
        Breach::TokenBack { resource, earlier, earlier_token, later, later_token } => {
            let tokens = format!("{later} got token {later_token} of {resource:?}");
            format!("Contract rule 3 (tokens) is broken: {tokens} after {earlier} had got {earlier_token}.")
        }
        Breach::Overtaken { resource, by, by_token, op, token } => {
            let overtaken = format!("{op}, with token {token} of {resource:?}, was overtaken by {by}, with {by_token}");
            format!("Contract rule 1 (exclusion) is broken: {overtaken}. Its token protects what it writes to.")
        }
        Breach::RegisterBack { resource, op, token, greatest } => {
            let took = format!("the register of {resource:?} took token {token} of {op}");
            format!("Fencing is broken: {took} after it had seen {greatest}.")
        }
        Breach::RegisterGap { resource, op, base, value } => {
            let went_by = format!("{op} went by {base} in the register of {resource:?}");
            format!("Fencing is broken: {went_by}, where {value} was, so an update is lost.")
        }
        Breach::Forgotten { resource, op, waited } => {
            let waited = millis(*waited);
            format!(
                "Contract rule 7 (grant) is broken: {op} was forgotten, and has waited {waited} ms for {resource:?}."
            )
        }
        Breach::LateSignal { resource, op, late, allowed } => {
            let (late, allowed) = (millis(*late), millis(*allowed));
            let learned = format!("{op} learned of its loss {late} ms after its lease of {resource:?} had expired");
            format!(
                "The holder's promise 2 (loss is signalled by the deadline) is broken: {learned}, {allowed} are allowed."
            )
        }
    }
}

/// Milliseconds from `start` to `at`.
fn after(at: Duration, start: Duration) -> String {
    match at.checked_sub(start) {
        Some(after) => millis(after),
        None => format!("-{}", millis(start - at)),
    }
}

/// Milliseconds, with three decimals.
fn millis(time: Duration) -> String {
    format!("{}.{:03}", time.as_millis(), time.subsec_micros() % 1000)
}
