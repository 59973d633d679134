//! When a cluster began to have locks.
//!
//! Its revisions number the grants; but a cluster that has lost all its data counts them from the beginning again. So there is
//! one key that outlasts the locks, with the time at which a client found no such key, and tokens are counted from there: what comes back
//! without its data has a later epoch. So has a namespace that nobody has used for so long that its key has expired.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use rlock_core::{Namespace, Token};

use crate::conn::Conn;
use crate::error::{CallError, Kind};
use crate::keys::Keys;

/// How long the epoch lives after it was last used, in seconds: a month. A client that connects uses it, and does so
/// [again](KEPT_EVERY) while it is there.
const KEPT_FOR: i64 = 30 * 24 * 3600;
/// The same in a namespace that does without a grace, as one that is thrown away does.
const KEPT_WITHOUT_GRACE_FOR: i64 = 3600;
pub(crate) const KEPT_EVERY: Duration = Duration::from_secs(15 * 60);

/// The keys that say from when on tokens are counted.
#[derive(Debug, Clone)]
pub(crate) struct EpochKeys {
    /// The one that outlasts the locks.
    epoch: String,
    /// One that is there for the first time after that, in which nothing is claimed.
    grace: String,
    grace_for: Duration,
}

/// From when on tokens are counted, in microseconds of the clock of whichever client was the first.
///
/// A cluster writes less than once in a microsecond, so that the time of its end, in these microseconds, is beyond all of its
/// tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Epoch(i64);

impl Epoch {
    /// The token of a lease that was created by this revision.
    pub(crate) fn token(self, created: i64) -> Token {
        Token::new(u64::try_from(self.0 + created).unwrap_or_default())
    }
}

impl EpochKeys {
    pub(crate) fn new(namespace: &Namespace, grace_for: Duration) -> Self {
        let front = Keys::new(namespace).front().to_owned();
        Self { grace: format!("{front}/"), epoch: front, grace_for }
    }

    /// A key that is there or not, to ask for.
    pub(crate) fn any(&self) -> &str {
        &self.epoch
    }

    /// The epoch, which begins now if there is none, and the lease of etcd's that it ends with.
    pub(crate) async fn read_or_begin(&self, conn: &Conn) -> Result<(Epoch, i64), CallError> {
        loop {
            let got = conn.kv().get(self.epoch.as_str(), None).await?;
            if let Some(kv) = got.kvs().first() {
                let micros = kv.value_str().ok().and_then(|value| value.parse().ok());
                return micros.map(|micros| (Epoch(micros), kv.lease())).ok_or_else(|| {
                    let reason = format!("somebody else uses the key {:?}: choose another namespace", self.epoch);
                    CallError::new(Kind::Refused, reason)
                });
            }
            self.begin(conn).await?;
        }
    }

    async fn begin(&self, conn: &Conn) -> Result<(), CallError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let kept_for = if self.grace_for.is_zero() { KEPT_WITHOUT_GRACE_FOR } else { KEPT_FOR };
        let kept = PutOptions::new().with_lease(conn.lease().grant(kept_for, None).await?.id());
        let mut ops = vec![TxnOp::put(self.epoch.as_str(), now.to_string(), Some(kept))];
        if !self.grace_for.is_zero() {
            let secs = self.grace_for.as_secs() + u64::from(self.grace_for.subsec_nanos() > 0);
            let grace = conn.lease().grant(i64::try_from(secs).unwrap_or(i64::MAX), None).await?;
            let options = PutOptions::new().with_lease(grace.id());
            ops.push(TxnOp::put(self.grace.as_str(), "", Some(options)));
        }
        let is_new = Compare::create_revision(self.epoch.as_str(), CompareOp::Equal, 0);
        // The leases of clients that were later end by themselves.
        conn.kv().txn(Txn::new().when([is_new]).and_then(ops)).await?;
        Ok(())
    }

    /// Asks for the rights that locks need, by a transaction that does nothing: etcd denies what is in the branch that is not
    /// taken. Before 3.5 it lets anybody write who may read, where that is nested as in a claim.
    pub(crate) async fn try_rights(&self, conn: &Conn) -> Result<(), CallError> {
        let never = Compare::create_revision(self.epoch.as_str(), CompareOp::Less, 0);
        let all = GetOptions::new().with_prefix().with_limit(1);
        let ops = [TxnOp::get(self.epoch.as_str(), Some(all)), TxnOp::put(self.grace.as_str(), "", None)];
        conn.kv().txn(Txn::new().when([never]).and_then(ops)).await?;
        Ok(())
    }

    /// Makes operations depend on it that the epoch is still that one, and its grace over.
    pub(crate) fn guard(&self, epoch: Epoch, ops: Vec<TxnOp>) -> Txn {
        let same = Compare::value(self.epoch.as_str(), CompareOp::Equal, epoch.0.to_string());
        let is_over = Compare::create_revision(self.grace.as_str(), CompareOp::Equal, 0);
        let options = GetOptions::new().with_count_only();
        let is_there = TxnOp::get(self.grace.as_str(), Some(options));
        Txn::new().when([same, is_over]).and_then(ops).or_else([is_there])
    }

    /// Why operations that depended on it were not carried out.
    pub(crate) fn refusal(&self, conn: &Conn, answers: &[TxnOpResponse]) -> CallError {
        let in_grace = matches!(answers, [TxnOpResponse::Get(grace)] if grace.count() > 0);
        if !in_grace {
            conn.give_up();
            return CallError::new(Kind::Unsent, "the cluster has lost its data, and is asked anew");
        }
        let reason = format!(
            "these locks have been in use here for a moment only, and if that is because the cluster has lost its data, whoever \
             held locks before has up to {:?} to learn of their loss (restart_grace)",
            self.grace_for
        );
        CallError::new(Kind::Unsent, reason)
    }
}
