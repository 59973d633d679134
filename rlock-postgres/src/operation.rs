//! An operation on a resource, as an argument of the procedure in sql/change.sql.

use std::time::Duration;

use rlock_core::{Claim, Extension, IfBusy, LeaseId, Release, ResourceName, Ttl};

use crate::statement::Value;

/// The shortest TTL: an answer sometimes takes as long as a slow disk.
pub(crate) const MIN_TTL: Duration = Duration::from_millis(100);

/// An entry of a call of sql/change.sql.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation<'a> {
    pub(crate) resource: &'a ResourceName,
    verb: Verb<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Verb<'a> {
    Extend(LeaseId, Ttl),
    Release(&'a Release),
    Claim(&'a Claim),
    Break,
    Settle,
}

impl<'a> Operation<'a> {
    pub(crate) fn claiming(claim: &'a Claim) -> Self {
        Self { resource: &claim.key.resource, verb: Verb::Claim(claim) }
    }

    pub(crate) fn extending(extension: &'a Extension) -> Self {
        Self { resource: &extension.key.resource, verb: Verb::Extend(extension.key.id, extension.ttl) }
    }

    pub(crate) fn releasing(release: &'a Release) -> Self {
        Self { resource: &release.key.resource, verb: Verb::Release(release) }
    }

    pub(crate) fn breaking(resource: &'a ResourceName) -> Self {
        Self { resource, verb: Verb::Break }
    }

    /// Only drops expired leases, and grants.
    pub(crate) fn settling(resource: &'a ResourceName) -> Self {
        Self { resource, verb: Verb::Settle }
    }

    /// Whether it changes nothing that matters if it takes effect after later requests of the same client.
    pub(crate) fn is_harmless_late(&self) -> bool {
        !matches!(self.verb, Verb::Claim(_) | Verb::Break)
    }

    /// Whether sql/free.sql may be able to do it.
    pub(crate) fn may_be_free(&self) -> bool {
        match self.verb {
            Verb::Claim(_) => true,
            Verb::Release(release) => release.rest.is_zero(),
            Verb::Extend(..) | Verb::Break | Verb::Settle => false,
        }
    }

    fn claim(&self) -> Option<&'a Claim> {
        if let Verb::Claim(claim) = self.verb { Some(claim) } else { None }
    }

    fn id(&self) -> LeaseId {
        match self.verb {
            Verb::Extend(id, _) => id,
            Verb::Release(release) => release.key.id,
            Verb::Claim(claim) => claim.key.id,
            Verb::Break | Verb::Settle => LeaseId::from_u128(0),
        }
    }

    /// In µs.
    fn time(&self) -> i64 {
        match self.verb {
            Verb::Extend(_, ttl) => micros(ttl),
            Verb::Release(release) => i64::try_from(release.rest.as_micros()).unwrap_or(i64::MAX / 4),
            Verb::Claim(claim) => micros(claim.ttl),
            Verb::Break | Verb::Settle => 0,
        }
    }

    fn number(&self) -> i64 {
        match self.verb {
            Verb::Extend(..) => 1,
            Verb::Release(_) => 2,
            Verb::Claim(claim) if claim.if_busy == IfBusy::Queue => 3,
            Verb::Claim(_) => 4,
            Verb::Break => 5,
            Verb::Settle => 6,
        }
    }

    /// The arguments of sql/change.sql that describe operations.
    pub(crate) fn values(operations: &[&Self]) -> [Value; 8] {
        let each = |value: fn(&Self) -> i64| Value::Numbers(operations.iter().map(|one| value(one)).collect());
        let text = |value: fn(&Self) -> String| Value::Texts(operations.iter().map(|one| value(one)).collect());
        // Only claims need these values, and a call with claims has no other operations.
        let are_claims = operations.iter().any(|operation| operation.claim().is_some());
        let claims = |values: Value, none: Value| if are_claims { values } else { none };
        let data = operations
            .iter()
            .map(|operation| operation.claim()?.data.as_ref().map(|data| data.as_bytes().to_vec()))
            .collect();
        [
            each(Self::number),
            text(|operation| operation.resource.as_str().to_owned()),
            text(|operation| operation.id().to_hex()),
            each(Self::time),
            claims(each(|one| one.claim().map_or(0, |claim| claim.share.weight().into())), Value::Numbers(Vec::new())),
            claims(
                each(|one| one.claim().map_or(0, |claim| claim.share.capacity().into())),
                Value::Numbers(Vec::new()),
            ),
            claims(
                text(|one| one.claim().map(|claim| claim.owner.to_record()).unwrap_or_default()),
                Value::Texts(Vec::new()),
            ),
            claims(Value::Data(data), Value::Data(Vec::new())),
        ]
    }
}

fn micros(ttl: Ttl) -> i64 {
    i64::try_from(ttl.get().max(MIN_TTL).as_micros()).expect("bounded by Ttl::MAX")
}
