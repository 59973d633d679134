//! The state that all operations of a client share.

use std::sync::Arc;

use etcd_client::TxnOp;
use futures_util::StreamExt as _;
use futures_util::future::{join, try_join_all};
use futures_util::stream::FuturesUnordered;
use rlock_core::{BackendError, Event, Events, LeaseId, ResourceName};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::EtcdConfig;
use crate::answer::{self, Done, Outcome};
use crate::crowds::Crowds;
use crate::error::CallError;
use crate::events::Sight;
use crate::keys::Keys;
use crate::line::Line;
use crate::link::{Link, Reply};
use crate::pool::Pool;
use crate::table::{Known, Table};
use crate::txn::{self, At, CHUNK};

pub(crate) struct Inner {
    pub(crate) config: Arc<EtcdConfig>,
    pub(crate) store: Arc<str>,
    pub(crate) keys: Keys,
    pub(crate) link: Arc<Link>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) table: Table,
    pub(crate) crowds: Crowds,
    pub(crate) events: Events,
}

impl Inner {
    /// Runs operations in one transaction, which may be sent twice.
    pub(crate) async fn run(&self, ops: Vec<TxnOp>) -> Result<Reply<Done>, CallError> {
        self.link
            .call(|conn| {
                let ops = ops.clone();
                async move { answer::run(&conn, ops).await }
            })
            .await
    }

    /// The same for operations that grant.
    pub(crate) async fn run_granting(&self, ops: Vec<TxnOp>) -> Result<Reply<Done>, CallError> {
        self.link
            .call(|conn| {
                let ops = ops.clone();
                async move { answer::run_granting(&conn, ops).await }
            })
            .await
    }

    /// Runs operations that only read. Their answers may be of different revisions.
    pub(crate) async fn look(&self, ops: Vec<TxnOp>) -> Result<Vec<(At, Outcome)>, CallError> {
        let groups = self.look_at_groups(ops.into_iter().map(|op| vec![op]).collect()).await?;
        Ok(groups
            .into_iter()
            .flat_map(|(at, outcomes)| outcomes.into_iter().map(move |outcome| (at, outcome)))
            .collect())
    }

    /// Runs groups of operations that only read. All answers of a group are of the same revision.
    pub(crate) async fn look_at_groups(&self, groups: Vec<Vec<TxnOp>>) -> Result<Vec<(At, Vec<Outcome>)>, CallError> {
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        let mut parts: Vec<Vec<TxnOp>> = Vec::new();
        let mut part_of = Vec::with_capacity(sizes.len());
        for group in groups {
            match parts.last_mut().filter(|part| part.len() + group.len() <= CHUNK) {
                Some(part) => part.extend(group),
                None => parts.push(group),
            }
            part_of.push(parts.len() - 1);
        }
        let done = try_join_all(parts.into_iter().map(|part| self.run(part))).await?;
        let mut done: Vec<_> = done.into_iter().map(|one| (one.value.at, one.value.outcomes.into_iter())).collect();
        let answers = part_of.into_iter().zip(sizes).map(|(part, size)| {
            let (at, outcomes) = &mut done[part];
            (*at, outcomes.by_ref().take(size).collect())
        });
        Ok(answers.collect())
    }

    /// Reads the whole lines of resources, at a cost that grows with them.
    pub(crate) async fn lines(&self, resources: &[&ResourceName]) -> Result<Vec<Line>, CallError> {
        let fronts: Vec<_> = resources.iter().map(|name| self.keys.line(name)).collect();
        let answers = self.look(fronts.iter().map(|front| txn::line(front)).collect()).await?;
        let lines = fronts.iter().zip(answers);
        lines.map(|(front, (at, outcome))| Ok(Line::read(front, at, &outcome.found()?.kvs))).collect()
    }

    pub(crate) fn failed(&self, error: CallError, operation: &'static str) -> BackendError {
        error.into_backend_error(operation, &self.store)
    }

    /// Handles the watcher's observations.
    pub(crate) async fn attend(self: Arc<Self>, mut sights: UnboundedReceiver<Sight>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            let first = tokio::select! {
                sight = sights.recv() => sight,
                Some(()) = under_way.next() => continue,
            };
            let Some(first) = first else { return };
            let (mut changed, mut lasting) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(sight) = next {
                match sight {
                    Sight::Changed(id) => changed.push(id),
                    Sight::Gone(id, revision) => self.table.deleted(id, revision),
                    Sight::Lasting(id) => lasting.push(id),
                    Sight::Resync => self.events.send(Event::Resync),
                }
                next = sights.try_recv().ok();
            }
            let this = self.clone();
            under_way.push(async move {
                join(this.look_again(changed), this.write_down(lasting)).await;
            });
        }
    }

    /// Reads the state of waiting leases, retrying until it is known.
    async fn look_again(&self, mut ids: Vec<LeaseId>) {
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

        ids.sort_unstable();
        ids.dedup();
        loop {
            let known: Vec<_> = ids.iter().filter_map(|id| self.table.find(*id)).collect();
            let questions: Vec<_> = known.iter().filter_map(Known::question).collect();
            if questions.is_empty() {
                return;
            }
            match self.survey(&questions).await {
                Ok(sightings) => {
                    let all = questions.iter().zip(&sightings);
                    return all.for_each(|(question, sighting)| self.table.seen(question.id, sighting));
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
        let unwritten: Vec<_> = ids.into_iter().filter_map(|id| self.table.unwritten(id)).collect();
        for part in unwritten.chunks(CHUNK) {
            let ops = part.iter().map(|(key, seat, record)| txn::rewrite(key, seat.created, record)).collect();
            if let Err(error) = self.run(ops).await {
                tracing::debug!(%error, "since when some locks are held was not written down");
            }
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("store", &self.store).finish_non_exhaustive()
    }
}
