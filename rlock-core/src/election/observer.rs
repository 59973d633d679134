//! Observing the leader.

use std::time::Duration;

use crate::client::{Client, View};
use crate::contract::{BackendError, Holder, LeaseData, Owner, ResourceName, Snapshot, Token};

/// A leader, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Leader {
    /// The host and process that lead.
    pub owner: Owner,
    /// The data that the leader campaigned with.
    pub data: Option<LeaseData>,
    /// The fencing token of the leadership.
    pub token: Token,
    /// The time since the grant, on the store's clock.
    pub led_for: Duration,
    /// The remaining life of the leader's lease, unless it is extended.
    pub remaining: Duration,
}

impl From<Holder> for Leader {
    fn from(holder: Holder) -> Self {
        let Holder { owner, token, held_for, remaining, data, .. } = holder;
        Self { owner, data, token, led_for: held_for, remaining }
    }
}

/// The state of an election, as an observer knows it.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Observation {
    /// A candidate leads.
    Led(Leader),
    /// No client leads.
    Vacant,
    /// The store does not answer, and the state may have changed.
    Unsure(#[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialized::text"))] BackendError),
}

impl Observation {
    /// The leader; `None` if there is none, or if the leader is not known for sure.
    pub fn leader(&self) -> Option<&Leader> {
        if let Self::Led(leader) = self { Some(leader) } else { None }
    }
}

impl View for Observation {
    fn of(answer: Result<Snapshot, BackendError>) -> Self {
        match answer.map(leader_of) {
            Ok(Some(leader)) => Self::Led(leader),
            Ok(None) => Self::Vacant,
            Err(error) => Self::Unsure(error),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Led(one), Self::Led(other)) => one.token == other.token,
            (Self::Vacant, Self::Vacant) | (Self::Unsure(_), Self::Unsure(_)) => true,
            _ => false,
        }
    }
}

pub(super) async fn ask(client: &Client, resource: &ResourceName) -> Result<Option<Leader>, BackendError> {
    Ok(leader_of(client.inspect(resource).await?))
}

fn leader_of(snapshot: Snapshot) -> Option<Leader> {
    // The holders of another kind of lock under that name lead nothing.
    snapshot.holders.into_iter().next().filter(|_| snapshot.capacity == Some(1)).map(Leader::from)
}
