//! Checks that tokens are unique and increase.

use std::collections::{HashMap, HashSet};

use super::by_resource::{ByResource, Resource};
use super::found::Found;
use super::protected::Protected;
use crate::history::asking::{Asking, Grant};
use crate::history::breach::Breach;
use crate::history::entry::Op;

/// Finds the wrong tokens, and the grants that were overtaken.
pub(super) fn check<'a>(sorted: &ByResource<'a>) -> (Found, Protected<'a>) {
    let (mut wrong, mut overtaken) = (Found::default(), Protected::new(&sorted.timeline.fates));
    for resource in sorted.resources.values() {
        let mut granted: Vec<(&Asking, Grant)> =
            resource.askings.iter().filter_map(|asking| Some((*asking, asking.grant?))).collect();
        granted.sort_by_key(|(_, grant)| grant.at);
        check_distinct(resource, &granted, &mut wrong);
        let back = check_askings(resource, &granted, &mut wrong);
        check_holds(resource, &back, &mut overtaken);
    }
    (wrong, overtaken)
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

/// Checks that the token of a grant is greater than each token that was noted before the request. Returns the attempts
/// that break this.
fn check_askings(resource: &Resource<'_>, granted: &[(&Asking, Grant)], found: &mut Found) -> HashSet<Op> {
    let mut greatest = Greatest::default();
    let mut noted = granted.iter().peekable();
    let mut back = HashSet::new();
    for asking in &resource.askings {
        while let Some((earlier, grant)) = noted.next_if(|(_, grant)| grant.at < asking.asked) {
            greatest.see(earlier.op, grant.token);
        }
        if let (Some(grant), Some(bound)) = (asking.grant, greatest.0)
            && grant.token < bound.1
        {
            back.insert(asking.op);
            let (name, (earlier, earlier_token)) = (resource.name, bound);
            let (later, later_token) = (asking.op, grant.token);
            found.add(grant.at, || Breach::TokenBack {
                resource: name.clone(),
                earlier,
                earlier_token,
                later,
                later_token,
            });
        }
    }
    back
}

/// Checks holds that exclude each other: of two that were both alive when noted, the one noted first must have the
/// smaller token. An exclusive hold excludes all others.
fn check_holds(resource: &Resource<'_>, found_already: &HashSet<Op>, found: &mut Protected<'_>) {
    let (mut all, mut exclusive) = (Greatest::default(), Greatest::default());
    for hold in &resource.holds {
        let (op, is_exclusive) = (hold.asking.op, hold.asking.share.is_exclusive());
        let bound = if is_exclusive { &all } else { &exclusive };
        if let Some(bound) = bound.0
            && hold.token < bound.1
            && !found_already.contains(&op)
        {
            let (name, (by, by_token), token) = (resource.name, bound, hold.token);
            found.add(hold.span.from, || Breach::Overtaken { resource: name.clone(), by, by_token, op, token });
        }
        all.see(op, hold.token);
        if is_exclusive {
            exclusive.see(op, hold.token);
        }
    }
}

/// The greatest token seen, and the attempt that got it.
#[derive(Default)]
struct Greatest(Option<(Op, u64)>);

impl Greatest {
    fn see(&mut self, op: Op, token: u64) {
        if self.0.is_none_or(|(_, greatest)| token > greatest) {
            self.0 = Some((op, token));
        }
    }
}
