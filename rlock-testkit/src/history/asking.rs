//! One lock attempt and its outcome.

use std::collections::HashMap;
use std::time::Duration;

use rlock_core::{LossReason, ResourceName, Share};

use super::entry::{Entry, Op, What};
use super::error::HistoryError;
use super::fates::{Fates, Span};

/// One lock attempt and its outcome.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    pub(super) op: Op,
    pub(super) resource: ResourceName,
    pub(super) share: Share,
    pub(super) asked: Duration,
    /// The instant of the first answer: a grant, a refusal, or an unknown outcome.
    pub(super) answered: Option<Duration>,
    pub(super) grant: Option<Grant>,
    pub(super) loss: Option<Loss>,
    releasing: Option<Duration>,
    /// Whether the store confirmed the release; `None` without an answer to it.
    released: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) at: Duration,
    pub(super) token: u64,
    /// The latest instant at which the holder noted that it still held.
    believed: Duration,
    /// The latest deadline that the holder noted.
    until: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    pub(super) at: Duration,
    pub(super) reason: LossReason,
    pub(super) until: Option<Duration>,
}

impl Asking {
    /// All attempts in `entries`, in the order in which they were made.
    ///
    /// # Errors
    ///
    /// Returns a [`HistoryError`] if the entries contradict each other.
    pub(super) fn all(entries: &[Entry]) -> Result<Vec<Self>, HistoryError> {
        let mut askings = Vec::new();
        let mut indices = HashMap::new();
        for Entry { at, what } in entries {
            let What::Asked { op, resource, share } = what else { continue };
            if indices.insert(*op, askings.len()).is_some() {
                return Err(HistoryError::AskedTwice { op: *op });
            }
            askings.push(Self::new(*op, resource.clone(), *share, *at));
        }
        for Entry { at, what } in entries {
            let Some(op) = what.op() else { continue };
            let index = indices.get(&op).ok_or(HistoryError::NeverAsked { op })?;
            askings[*index].hear(*at, what)?;
        }
        Ok(askings)
    }

    /// The instant at which the holder learned of its loss, and the last deadline that it knew. A holder that releases
    /// without a loss signal counts as learning then, unless the store confirmed the release: then there was no loss.
    pub(super) fn end_of_belief(&self) -> Option<(Duration, Duration)> {
        match (self.loss, self.releasing, self.grant) {
            (Some(loss), ..) => Some((loss.at, loss.until?)),
            (None, Some(releasing), Some(grant)) if self.released == Some(false) => Some((releasing, grant.until)),
            _ => None,
        }
    }

    fn new(op: Op, resource: ResourceName, share: Share, asked: Duration) -> Self {
        let (answered, grant, loss, releasing) = (None, None, None, None);
        Self { op, resource, share, asked, answered, grant, loss, releasing, released: None }
    }

    fn hear(&mut self, at: Duration, what: &What) -> Result<(), HistoryError> {
        match *what {
            What::Granted { token, until, .. } => {
                self.answered.get_or_insert(at);
                let grant = Grant { at, token, believed: at.min(until), until };
                if self.grant.replace(grant).is_some() {
                    return Err(HistoryError::GrantedTwice { op: self.op });
                }
            }
            What::Believed { until, .. } => {
                if let Some(grant) = &mut self.grant {
                    grant.believed = grant.believed.max(at.min(until));
                    grant.until = grant.until.max(until);
                }
            }
            What::Refused { .. } | What::Unknown { .. } => _ = self.answered.get_or_insert(at),
            What::Lost { reason, until, .. } => _ = self.loss.get_or_insert(Loss { at, reason, until }),
            What::Releasing { .. } => _ = self.releasing.get_or_insert(at),
            What::Released { known, .. } => self.released = Some(known),
            _ => {}
        }
        Ok(())
    }

    /// The span in which the holder certainly believed that it held the lock; `None` if there is none.
    pub(super) fn hold(&self, fates: &Fates) -> Option<Span> {
        let grant = self.grant?;
        let to = self.broken(grant, fates, self.sure_until(grant, fates).max(grant.believed));
        (to > grant.at).then_some(Span { from: grant.at, to })
    }

    /// The span in which this lock was probably held. It is exact enough for counts, not for judging.
    pub(super) fn likely_hold(&self, fates: &Fates) -> Option<Span> {
        let grant = self.grant?;
        let lost = self.loss.map(|loss| loss.at.min(loss.until.unwrap_or(loss.at)));
        let ends = [self.releasing, lost, fates.death(self.op.process, self.asked)];
        let mut to = ends.into_iter().flatten().min().unwrap_or(Duration::MAX);
        if fates.last_freeze(self.op.process, to).is_some_and(|freeze| freeze.to > grant.believed) {
            to = to.min(grant.until);
        }
        (to > grant.at).then_some(Span { from: grant.at, to })
    }

    fn sure_until(&self, grant: Grant, fates: &Fates) -> Duration {
        let mut to = Duration::MAX;
        if let Some(releasing) = self.releasing {
            // The store confirmed that the lease still existed, so it was held all the time.
            to = if self.released == Some(true) { releasing } else { releasing.min(grant.until) };
        }
        if let Some(Loss { at, reason, until }) = self.loss {
            to = to.min(match reason {
                // The client gives up a lease that is still alive, and notes the loss at any later instant.
                LossReason::GaveUp | LossReason::Shutdown => grant.believed,
                _ => at.min(until.unwrap_or(grant.until)),
            });
        }
        if fates.death(self.op.process, self.asked).is_some() {
            // The process may have lost its lease just before it died, without time to note it.
            return to.min(grant.believed);
        }
        match fates.last_freeze(self.op.process, to) {
            Some(Span { to: Duration::MAX, .. }) => grant.believed,
            Some(freeze) if freeze.to > grant.believed => to.min(grant.until),
            _ => to,
        }
    }

    /// `to`, or the earlier instant at which the lease may have been broken by force.
    fn broken(&self, grant: Grant, fates: &Fates, to: Duration) -> Duration {
        if self.released == Some(true) && self.loss.is_none() {
            return to;
        }
        // The break may have happened between the grant in the store and the client's note of it.
        fates.first_break(&self.resource, self.asked).map_or(to, |broken| to.min(broken.max(grant.at)))
    }
}
