//! What all operations of a client share.

use std::sync::Arc;

use etcd_client::TxnOp;
use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream::FuturesUnordered;
use rlock_core::{BackendError, Event, Events, LeaseId, ResourceName};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::error::{CallError, Kind};
use crate::keys::Keys;
use crate::line::Line;
use crate::link::{Answer, Link};
use crate::pool::Pool;
use crate::table::Table;
use crate::txn::{self, At, CHUNK, Done, Outcome};
use crate::watcher::Sight;

pub(crate) struct Inner {
    pub(crate) store: Arc<str>,
    pub(crate) keys: Keys,
    pub(crate) link: Arc<Link>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) table: Table,
    pub(crate) events: Events,
}

impl Inner {
    /// Carries out operations in one transaction, which may be sent twice.
    pub(crate) async fn run(&self, ops: Vec<TxnOp>) -> Result<Answer<Done>, CallError> {
        self.link
            .call(|conn| {
                let ops = ops.clone();
                async move { txn::run(&conn, ops).await }
            })
            .await
    }

    /// The same for operations that grant.
    pub(crate) async fn run_granting(&self, ops: Vec<TxnOp>) -> Result<Answer<Done>, CallError> {
        self.link
            .call(|conn| {
                let ops = ops.clone();
                async move { txn::run_granting(&conn, ops).await }
            })
            .await
    }

    /// Asks for as many things as there are operations, which only look. Not all are answered as of the same revision.
    pub(crate) async fn look(&self, ops: Vec<TxnOp>) -> Result<Vec<(At, Outcome)>, CallError> {
        let part = async |ops: &[TxnOp]| self.run(ops.to_vec()).await.map(|answer| answer.value);
        let mut answers = Vec::with_capacity(ops.len());
        for done in join_all(ops.chunks(CHUNK).map(part)).await {
            let Done { at, answers: some } = done?;
            answers.extend(some.into_iter().map(|answer| (at, answer)));
        }
        Ok(answers)
    }

    /// The lines of resources.
    pub(crate) async fn lines(&self, resources: &[&ResourceName]) -> Result<Vec<Line>, CallError> {
        let ops = resources.iter().map(|name| txn::line(&self.keys.line(name))).collect();
        self.look(ops).await?.into_iter().map(|(at, outcome)| self.line(at, &outcome)).collect()
    }

    pub(crate) fn line(&self, at: At, outcome: &Outcome) -> Result<Line, CallError> {
        match outcome {
            Outcome::Found { kvs, .. } => Ok(Line::read(&self.keys, at, kvs)),
            _ => Err(foreign()),
        }
    }

    pub(crate) fn failed(&self, error: CallError, operation: &'static str) -> BackendError {
        error.into_backend_error(operation, &self.store)
    }

    /// Attends to what the watcher sees.
    pub(crate) async fn attend(self: Arc<Self>, mut sights: UnboundedReceiver<Sight>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            let first = tokio::select! {
                sight = sights.recv() => sight,
                Some(()) = under_way.next() => continue,
            };
            let Some(first) = first else { return };
            let (mut changed, mut settled) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(sight) = next {
                match sight {
                    Sight::Changed(id) => changed.push(id),
                    Sight::Gone(id, revision) => self.table.gone(id, revision),
                    Sight::Settled(id) => settled.push(id),
                    Sight::Resync => self.events.send(Event::Resync),
                }
                next = sights.try_recv().ok();
            }
            let this = self.clone();
            under_way.push(async move {
                join(this.look_at(changed), this.write_down(settled)).await;
            });
        }
    }

    /// Looks at what has become of waiting leases, until it is known.
    async fn look_at(&self, mut ids: Vec<LeaseId>) {
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

        ids.sort_unstable();
        ids.dedup();
        loop {
            let known: Vec<_> = ids.iter().filter_map(|id| self.table.find(*id)).collect();
            if known.is_empty() {
                return;
            }
            let mut resources: Vec<_> = known.iter().map(|known| &known.key.resource).collect();
            resources.sort_unstable();
            resources.dedup();
            match self.lines(&resources).await {
                Ok(lines) => {
                    for known in &known {
                        let at = resources.binary_search(&&known.key.resource).expect("it is one of them");
                        self.table.seen(known.key.id, &lines[at]);
                    }
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "looking again at what may have been granted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Writes down since when leases are held, where their keys do not say so. It is only for who looks at them.
    async fn write_down(&self, ids: Vec<LeaseId>) {
        let unwritten: Vec<_> = ids.into_iter().filter_map(|id| self.table.unwritten(id)).collect();
        for part in unwritten.chunks(CHUNK) {
            let ops = part.iter().map(|(key, created, record)| txn::rewrite(key, *created, record)).collect();
            if let Err(error) = self.run(ops).await {
                tracing::debug!(%error, "since when some locks are held was not written down");
            }
        }
    }
}

pub(crate) fn foreign() -> CallError {
    CallError::new(Kind::Unanswered, "etcd gave an answer of another kind than was asked for")
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("store", &self.store).finish_non_exhaustive()
    }
}
