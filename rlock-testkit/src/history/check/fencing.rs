//! Checks that the token of a register never decreases, and that no update is lost.

use std::collections::HashMap;

use rlock_core::ResourceName;

use super::found::Found;
use crate::history::breach::Breach;
use crate::history::entry::{Op, What};
use crate::history::timeline::Timeline;

/// State of a register after the steps so far.
#[derive(Default)]
struct Taken {
    /// The greatest token, and the index of its entry.
    greatest: Option<(u64, usize)>,
    /// The value, and the index of the entry that shows it.
    value: Option<(u64, usize)>,
    /// The index of the entry in which each attempt opened the register.
    opened: HashMap<Op, usize>,
}

/// One access that a register accepted.
struct Step<'a> {
    position: usize,
    op: Op,
    resource: &'a ResourceName,
    token: u64,
    /// The value that was read or replaced.
    base: u64,
    /// The value after the access.
    value: u64,
}

pub(super) fn check(timeline: &Timeline) -> Found {
    let mut found = Found::default();
    let mut registers: HashMap<&ResourceName, Taken> = HashMap::new();
    for (position, entry) in timeline.entries.iter().enumerate() {
        let step = match entry.what {
            What::Opened { op, ref resource, token, value } => {
                Step { position, op, resource, token, base: value, value }
            }
            What::Wrote { op, ref resource, token, base, value } => Step { position, op, resource, token, base, value },
            _ => continue,
        };
        let register = registers.entry(step.resource).or_default();
        if let Some((breach, shown)) = register.take(&step) {
            found.add_shown(entry.at, || (breach, shown));
        }
        if let What::Opened { op, .. } = entry.what {
            register.opened.insert(op, position);
        }
    }
    found
}

impl Taken {
    /// Applies a step. Returns the breach, if there is one, with the indices of the entries that show it.
    fn take(&mut self, step: &Step<'_>) -> Option<(Breach, Vec<usize>)> {
        let &Step { position, op, resource, token, base, value } = step;
        let resource = resource.clone();
        let before = self.value.replace((value, position));
        if let Some((greatest, shown)) = self.greatest.filter(|(greatest, _)| token < *greatest) {
            return Some((Breach::RegisterBack { resource, op, token, greatest }, vec![shown, position]));
        }
        if self.greatest.is_none_or(|(greatest, _)| token > greatest) {
            self.greatest = Some((token, position));
        }
        let (value, shown) = before.filter(|(value, _)| base != *value)?;
        let mut shown = vec![shown, position];
        shown.extend(self.opened.get(&op));
        Some((Breach::RegisterGap { resource, op, base, value }, shown))
    }
}
