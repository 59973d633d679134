//! Handles the observations of the watcher.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use rlock_core::{Event, LeaseId};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::events::Sight;
use crate::inner::Inner;
use crate::known::Known;
use crate::txn::{self, CHUNK};

/// The pause before a failed look is repeated.
const PAUSE: Duration = Duration::from_millis(50);

impl Inner {
    /// Handles observations until the watcher ends.
    pub(crate) async fn attend(self: Arc<Self>, mut sights: UnboundedReceiver<Sight>) {
        let mut under_way = FuturesUnordered::new();
        let attend_to = |changed: Vec<LeaseId>, lasting: Vec<LeaseId>| {
            let this = self.clone();
            async move {
                join(this.look_again(changed), this.write_down(lasting)).await;
            }
        };
        loop {
            let first = tokio::select! {
                sight = sights.recv() => sight,
                lasting = self.own_leases.lasting() => {
                    under_way.push(attend_to(Vec::new(), lasting));
                    continue;
                }
                Some(()) = under_way.next() => continue,
            };
            let Some(first) = first else { return };
            let mut changed = Vec::new();
            let mut next = Some(first);
            while let Some(sight) = next {
                match sight {
                    Sight::Changed(id) => changed.push(id),
                    Sight::Gone(id, seat, revision) => self.own_leases.deleted(id, seat, revision),
                    Sight::Resync => self.events.send(Event::Resync),
                }
                next = sights.try_recv().ok();
            }
            under_way.push(attend_to(changed, Vec::new()));
        }
    }

    /// Reads the state of waiting leases, retrying until it is known.
    async fn look_again(&self, mut ids: Vec<LeaseId>) {
        ids.sort_unstable();
        ids.dedup();
        loop {
            let known: Vec<_> = ids.iter().filter_map(|id| self.own_leases.find(*id)).collect();
            let questions: Vec<_> = known.iter().filter_map(Known::question).collect();
            if questions.is_empty() {
                return;
            }
            match self.survey(&questions).await {
                Ok(sightings) => {
                    let all = questions.iter().zip(&sightings);
                    return all.for_each(|(question, sighting)| self.own_leases.seen(question.id, sighting));
                }
                Err(error) => {
                    tracing::debug!(%error, "looking again at what may have been granted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Writes the time of the grant into the keys of held leases that lack it. It is only shown.
    async fn write_down(&self, ids: Vec<LeaseId>) {
        if !self.config.note_holds {
            return;
        }
        let unwritten: Vec<_> = ids.into_iter().filter_map(|id| self.own_leases.unwritten(id)).collect();
        for part in unwritten.chunks(CHUNK) {
            let ops = part.iter().map(|(key, seat, record)| txn::rewrite(key, seat.created, record)).collect();
            if let Err(error) = self.run_conditional(ops).await {
                tracing::debug!(%error, "since when some locks are held was not written down");
            }
        }
    }
}
