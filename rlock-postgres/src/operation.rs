//! What is asked of a resource in one statement with others.

use rlock_core::{Claim, Extension, IfBusy, LeaseId, LeaseKey, ResourceName, Ttl};

/// One operation of sql/change.sql.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation<'a> {
    pub(crate) resource: &'a ResourceName,
    pub(crate) verb: Verb<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb<'a> {
    Extend(LeaseId, Ttl),
    Release(LeaseId),
    Claim(&'a Claim),
    Break,
    /// Only drops and grants.
    Settle,
}

impl<'a> Operation<'a> {
    pub(crate) fn claiming(claim: &'a Claim) -> Self {
        Self { resource: &claim.key.resource, verb: Verb::Claim(claim) }
    }

    pub(crate) fn extending(extension: &'a Extension) -> Self {
        Self { resource: &extension.key.resource, verb: Verb::Extend(extension.key.id, extension.ttl) }
    }

    pub(crate) fn releasing(lease: &'a LeaseKey) -> Self {
        Self { resource: &lease.resource, verb: Verb::Release(lease.id) }
    }

    pub(crate) fn claim(&self) -> Option<&'a Claim> {
        if let Verb::Claim(claim) = self.verb { Some(claim) } else { None }
    }

    pub(crate) fn id(&self) -> LeaseId {
        match self.verb {
            Verb::Extend(id, _) | Verb::Release(id) => id,
            Verb::Claim(claim) => claim.key.id,
            Verb::Break | Verb::Settle => LeaseId::from_u128(0),
        }
    }

    pub(crate) fn ttl(&self) -> Option<Ttl> {
        match self.verb {
            Verb::Extend(_, ttl) => Some(ttl),
            _ => self.claim().map(|claim| claim.ttl),
        }
    }

    pub(crate) fn owner(&self) -> String {
        self.claim().map(|claim| claim.owner.to_record()).unwrap_or_default()
    }

    /// As in sql/change.sql.
    pub(crate) fn number(&self) -> i64 {
        match self.verb {
            Verb::Extend(..) => 1,
            Verb::Release(_) => 2,
            Verb::Claim(claim) if claim.if_busy == IfBusy::Queue => 3,
            Verb::Claim(_) => 4,
            Verb::Break => 5,
            Verb::Settle => 6,
        }
    }
}
