//! What came of one question.

use std::collections::HashMap;
use std::time::Duration;

use rlock_core::{LossReason, ResourceName, Share};

use super::HistoryError;
use super::entry::{Entry, Op, What};
use super::fates::{Fates, Span};

/// What came of one question.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    pub(super) op: Op,
    pub(super) resource: ResourceName,
    pub(super) share: Share,
    pub(super) asked: Duration,
    /// The first answer, of whichever kind.
    pub(super) answered: Option<Duration>,
    pub(super) grant: Option<Grant>,
    pub(super) loss: Option<Loss>,
    releasing: Option<Duration>,
    /// What the release was answered with: whether the store confirmed it.
    released: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) at: Duration,
    pub(super) token: u64,
    /// The latest instant at which the holder has shown to have believed.
    believed: Duration,
    /// The greatest deadline that it has told.
    until: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    pub(super) at: Duration,
    pub(super) reason: LossReason,
    pub(super) until: Option<Duration>,
}

impl Asking {
    /// All questions in `entries`, in the order in which they were asked.
    ///
    /// # Errors
    ///
    /// If they make no sense.
    pub(super) fn all(entries: &[Entry]) -> Result<Vec<Self>, HistoryError> {
        let mut askings = Vec::new();
        let mut places = HashMap::new();
        for Entry { at, what } in entries {
            let What::Asked { op, resource, share } = what else { continue };
            if places.insert(*op, askings.len()).is_some() {
                return Err(HistoryError::AskedTwice { op: *op });
            }
            askings.push(Self::new(*op, resource.clone(), *share, *at));
        }
        for Entry { at, what } in entries {
            let Some(op) = what.op() else { continue };
            let place = places.get(&op).ok_or(HistoryError::NeverAsked { op })?;
            askings[*place].hear(*at, what)?;
        }
        Ok(askings)
    }

    /// When the holder was told of its loss, or let go of a lock without having been told that it was lost already, and
    /// the deadline that it knew then. A release that the store has confirmed shows that there was nothing to tell.
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

    /// The time in which it is sure that this was held, in the eyes of the holder; `None` if there is none.
    pub(super) fn hold(&self, fates: &Fates) -> Option<Span> {
        let grant = self.grant?;
        let to = self.broken(grant, fates, self.sure_until(grant, fates).max(grant.believed));
        (to > grant.at).then_some(Span { from: grant.at, to })
    }

    /// The time in which this was held, as far as is known: for counting, where what is likely will do.
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
            // The store's word that it was there to be released shows that it was held all the time.
            to = if self.released == Some(true) { releasing } else { releasing.min(grant.until) };
        }
        if let Some(Loss { at, reason, until }) = self.loss {
            to = to.min(match reason {
                // The client gives up a lease that still lives, and the note of it comes at any time after that.
                LossReason::GaveUp | LossReason::Shutdown => grant.believed,
                _ => at.min(until.unwrap_or(grant.until)),
            });
        }
        if fates.death(self.op.process, self.asked).is_some() {
            // Whether it lost its lease just before, it had no time to say.
            return to.min(grant.believed);
        }
        match fates.last_freeze(self.op.process, to) {
            Some(Span { to: Duration::MAX, .. }) => grant.believed,
            Some(freeze) if freeze.to > grant.believed => to.min(grant.until),
            _ => to,
        }
    }

    /// `to`, or when its lease may have been ended by force.
    fn broken(&self, grant: Grant, fates: &Fates, to: Duration) -> Duration {
        if self.released == Some(true) && self.loss.is_none() {
            return to;
        }
        // It may have hit between the store's grant and the news of it.
        fates.first_break(&self.resource, self.asked).map_or(to, |broken| to.min(broken.max(grant.at)))
    }
}
