//! The state that all operations of a client share.

use std::sync::Arc;

use etcd_client::{Txn, TxnOp};
use futures_util::future::try_join_all;
use rlock_core::{BackendError, Events, ResourceName};

use crate::EtcdConfig;
use crate::answer::{self, Done, Found, Outcome, foreign};
use crate::crowds::Crowds;
use crate::error::CallError;
use crate::keys::Keys;
use crate::line::Line;
use crate::link::{Link, Reply};
use crate::own_leases::OwnLeases;
use crate::pool::Pool;
use crate::txn::{self, At, CHUNK, Conditional};

pub(crate) struct Inner {
    pub(crate) config: Arc<EtcdConfig>,
    pub(crate) store: Arc<str>,
    pub(crate) keys: Keys,
    pub(crate) link: Arc<Link>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) own_leases: OwnLeases,
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
    pub(crate) async fn run_granting(&self, ops: Vec<Conditional>) -> Result<Reply<Done>, CallError> {
        self.link
            .call(|conn| {
                let ops = ops.clone();
                async move { answer::run_granting(&conn, ops).await }
            })
            .await
    }

    /// Runs operations with conditions in one transaction, which may be sent twice. Returns for each whether its
    /// conditions were met. The servers have less work with one that is not nested.
    pub(crate) async fn run_conditional(&self, ops: Vec<Conditional>) -> Result<Reply<Vec<bool>>, CallError> {
        if let [only] = &ops[..] {
            let call = self.link.call(|conn| {
                let txn = Txn::from(only.clone());
                async move { answer::run_if(&conn, txn).await }
            });
            let Reply { value, repeated } = call.await?;
            return Ok(Reply { value: vec![value.is_some()], repeated });
        }
        let Reply { value, repeated } = self.run(ops.into_iter().map(TxnOp::from).collect()).await?;
        let met = value.outcomes.into_iter().map(|outcome| Ok(outcome.decided()?.met));
        let met: Result<Vec<bool>, CallError> = met.collect();
        Ok(Reply { value: met?, repeated })
    }

    /// Runs operations that only read. Their answers may be of different revisions.
    pub(crate) async fn look(&self, ops: Vec<TxnOp>) -> Result<Vec<(At, Found)>, CallError> {
        let groups = self.look_at_groups(ops.into_iter().map(|op| vec![op]).collect()).await?;
        Ok(groups.into_iter().flat_map(|(at, found)| found.into_iter().map(move |found| (at, found))).collect())
    }

    /// Runs one operation that only reads.
    pub(crate) async fn look_at(&self, op: TxnOp) -> Result<(At, Found), CallError> {
        self.look(vec![op]).await?.pop().ok_or_else(foreign)
    }

    /// Counts the leases and the rests of a resource.
    pub(crate) async fn count(&self, resource: &ResourceName) -> Result<u64, CallError> {
        let (_, found) = self.look_at(txn::count(&self.keys.line(resource))).await?;
        Ok(found.count)
    }

    /// Runs groups of operations that only read. All answers of a group are of the same revision.
    pub(crate) async fn look_at_groups(&self, groups: Vec<Vec<TxnOp>>) -> Result<Vec<(At, Vec<Found>)>, CallError> {
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
            let found: Result<Vec<Found>, CallError> = outcomes.by_ref().take(size).map(Outcome::found).collect();
            found.map(|found| (*at, found))
        });
        answers.collect()
    }

    /// Reads the whole lines of resources, at a cost that grows with them.
    pub(crate) async fn lines(&self, resources: &[&ResourceName]) -> Result<Vec<Line>, CallError> {
        let fronts: Vec<_> = resources.iter().map(|name| self.keys.line(name)).collect();
        let answers = self.look(fronts.iter().map(|front| txn::line(front)).collect()).await?;
        let lines = fronts.iter().zip(answers);
        Ok(lines.map(|(front, (at, found))| Line::read(front, at, &found.kvs)).collect())
    }

    pub(crate) fn failed(&self, error: CallError, operation: &'static str) -> BackendError {
        error.into_backend_error(operation, &self.store)
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("store", &self.store).finish_non_exhaustive()
    }
}
