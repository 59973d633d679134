//! Watching who leads.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::client::Client;
use crate::contract::{BackendError, Failure, Holder, LeaseData, Owner, ResourceName, Token};

/// The time between two questions.
const INTERVAL: Duration = Duration::from_secs(1);
/// The least time between them, when a lease is about to end.
const SHORTEST: Duration = Duration::from_millis(20);
/// The time without an answer after which the last one may be out of date.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Observations that the user has not taken yet, beyond which the store is not asked again.
const UNREAD: usize = 16;

/// A leader, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// The host and process that lead.
    pub owner: Owner,
    /// The data that the leader campaigned with.
    pub data: Option<LeaseData>,
    /// The fencing token of the leadership.
    pub token: Token,
    /// The time since its beginning, on the store's clock.
    pub led_for: Duration,
    /// The time for which the leader's lease lives on, unless it is extended.
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
#[non_exhaustive]
pub enum Observation {
    /// This client leads.
    Led(Leader),
    /// No client leads.
    Vacant,
    /// The store does not answer, and the state may have changed.
    Unsure(BackendError),
}

impl Observation {
    /// The leader; `None` if there is none, or none that is known for sure.
    pub fn leader(&self) -> Option<&Leader> {
        if let Self::Led(leader) = self { Some(leader) } else { None }
    }

    /// Whether the other says the same: the same leadership, vacancy, or doubt.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Led(one), Self::Led(other)) => one.token == other.token,
            (Self::Vacant, Self::Vacant) | (Self::Unsure(_), Self::Unsure(_)) => true,
            _ => false,
        }
    }
}

pub(super) async fn ask(client: &Client, resource: &ResourceName) -> Result<Option<Leader>, BackendError> {
    Ok(client.inspect(resource).await?.holders.into_iter().next().map(Leader::from))
}

pub(super) fn observe(client: &Client, resource: ResourceName) -> Observer {
    let (sender, observations) = mpsc::channel(UNREAD);
    client.spawn(watch(client.clone(), resource, sender));
    Observer(observations)
}

/// The changes of an election.
pub(super) struct Observer(mpsc::Receiver<Observation>);

impl Stream for Observer {
    type Item = Observation;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Observation>> {
        self.0.poll_recv(context)
    }
}

async fn watch(client: Client, resource: ResourceName, sender: mpsc::Sender<Observation>) {
    let mut last: Option<Observation> = None;
    while !client.is_closed() {
        let now = tokio::select! {
            now = look(&client, &resource) => now,
            () = sender.closed() => return,
        };
        let pause = match &now {
            Observation::Led(leader) => leader.remaining.clamp(SHORTEST, INTERVAL),
            Observation::Vacant | Observation::Unsure(_) => INTERVAL,
        };
        if !last.as_ref().is_some_and(|last| last.is_same(&now)) {
            if sender.send(now.clone()).await.is_err() {
                return;
            }
            last = Some(now);
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = sender.closed() => return,
        }
    }
}

async fn look(client: &Client, resource: &ResourceName) -> Observation {
    match timeout(ANSWERS_WITHIN, ask(client, resource)).await {
        Ok(Ok(Some(leader))) => Observation::Led(leader),
        Ok(Ok(None)) => Observation::Vacant,
        Ok(Err(error)) => Observation::Unsure(error),
        Err(_elapsed) => {
            let reason = format!("no answer within {ANSWERS_WITHIN:?}: the server or the network is stuck or slow");
            Observation::Unsure(BackendError::Unknown(Failure::new("inspect", client.capabilities().backend, reason)))
        }
    }
}
