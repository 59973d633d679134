//! Tokens are distinct, and increase.

use std::collections::HashMap;

use super::{Case, Found, Resource};
use crate::history::asking::{Asking, Grant};
use crate::history::entry::Op;
use crate::history::violation::Breach;

pub(super) fn check(case: &Case<'_>) -> Found {
    let mut found = Found::default();
    for resource in case.resources.values() {
        let mut granted: Vec<(&Asking, Grant)> =
            resource.askings.iter().filter_map(|asking| Some((*asking, asking.grant?))).collect();
        granted.sort_by_key(|(_, grant)| grant.at);
        check_distinct(resource, &granted, &mut found);
        check_order(resource, &granted, &mut found);
    }
    found
}

fn check_distinct(resource: &Resource<'_>, granted: &[(&Asking, Grant)], found: &mut Found) {
    let mut owners: HashMap<u64, Op> = HashMap::new();
    for (asking, Grant { at, token, .. }) in granted {
        let second = asking.op;
        if let Some(&first) = owners.get(token) {
            let resource = resource.name.clone();
            found.add(*at, || Breach::TokenTwice { resource, token: *token, first, second });
        } else {
            owners.insert(*token, second);
        }
    }
}

/// A grant comes after each one that was noted before it was asked for. Of two holds that do not fit beside each other,
/// both alive when they were noted, the one that was noted first was granted first as well. With a hold of everything,
/// nothing fits.
fn check_order(resource: &Resource<'_>, granted: &[(&Asking, Grant)], found: &mut Found) {
    let mut before_asking = Greatest::default();
    let mut noted = granted.iter().peekable();
    let mut bounds: HashMap<Op, (Op, u64)> = HashMap::new();
    for asking in &resource.askings {
        while let Some((earlier, grant)) = noted.next_if(|(_, grant)| grant.at < asking.asked) {
            before_asking.see(earlier.op, grant.token);
        }
        bounds.extend(before_asking.0.map(|bound| (asking.op, bound)));
    }

    let (mut all, mut exclusive) = (Greatest::default(), Greatest::default());
    for hold in &resource.holds {
        let (op, is_exclusive) = (hold.asking.op, hold.asking.share.is_exclusive());
        let bound = if is_exclusive { &all } else { &exclusive };
        if let Some(bound) = bound.0 {
            let asking_bound = bounds.entry(op).or_insert(bound);
            if bound.1 > asking_bound.1 {
                *asking_bound = bound;
            }
        }
        all.see(op, hold.token);
        if is_exclusive {
            exclusive.see(op, hold.token);
        }
    }

    for (asking, grant) in granted {
        let Some(&(earlier, earlier_token)) = bounds.get(&asking.op) else { continue };
        if grant.token < earlier_token {
            found.add(grant.at, || back(resource, (earlier, earlier_token), (asking.op, grant.token)));
        }
    }
}

fn back(resource: &Resource<'_>, earlier: (Op, u64), later: (Op, u64)) -> Breach {
    let ((earlier, earlier_token), (later, later_token)) = (earlier, later);
    Breach::TokenBack { resource: resource.name.clone(), earlier, earlier_token, later, later_token }
}

/// The greatest token seen, and whose it is.
#[derive(Default)]
struct Greatest(Option<(Op, u64)>);

impl Greatest {
    fn see(&mut self, op: Op, token: u64) {
        if self.0.is_none_or(|(_, greatest)| token > greatest) {
            self.0 = Some((op, token));
        }
    }
}
