//! A timeline, sorted by resource for the checks.

use std::collections::BTreeMap;

use rlock_core::ResourceName;

use crate::history::asking::Asking;
use crate::history::fates::Span;
use crate::history::timeline::Timeline;

/// The attempts and the holds of a timeline, sorted by resource.
pub(super) struct ByResource<'a> {
    pub(super) timeline: &'a Timeline,
    pub(super) resources: BTreeMap<&'a ResourceName, Resource<'a>>,
}

/// The attempts and the holds of one resource.
pub(super) struct Resource<'a> {
    pub(super) name: &'a ResourceName,
    /// Sorted by the instant of the request.
    pub(super) askings: Vec<&'a Asking>,
    /// Sorted by their start.
    pub(super) holds: Vec<Hold<'a>>,
}

#[derive(Clone, Copy)]
pub(super) struct Hold<'a> {
    pub(super) asking: &'a Asking,
    pub(super) span: Span,
    pub(super) token: u64,
}

impl<'a> ByResource<'a> {
    pub(super) fn new(timeline: &'a Timeline) -> Self {
        let mut resources: BTreeMap<&ResourceName, Resource<'a>> = BTreeMap::new();
        for asking in &timeline.askings {
            let name = &asking.resource;
            let new = || Resource { name, askings: Vec::new(), holds: Vec::new() };
            let resource = resources.entry(name).or_insert_with(new);
            resource.askings.push(asking);
            if let (Some(span), Some(grant)) = (asking.hold(&timeline.fates), asking.grant) {
                resource.holds.push(Hold { asking, span, token: grant.token });
            }
        }
        for resource in resources.values_mut() {
            resource.holds.sort_by_key(|hold| hold.span.from);
        }
        Self { timeline, resources }
    }
}
