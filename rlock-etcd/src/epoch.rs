//! The epoch of a namespace: the time of its first use, which its tokens count from.
//!
//! Fencing tokens come from the revisions of etcd, but a cluster that has lost all its data starts again at revision 1.
//! So one key outlasts the locks. It holds the time at which a client did not find this key, and tokens count from that
//! time: a cluster that comes back without its data has a later epoch. So does a namespace whose key has expired
//! because no client has used it for so long.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etcd_client::{Compare, CompareOp, GetOptions, KvClient, LeaseClient, PutOptions, Txn, TxnOp};
use rlock_core::{Namespace, Token};

use crate::error::{CallError, Kind};
use crate::keys::Keys;

/// The TTL of the epoch's key in seconds, a month. A client keeps the key alive when it connects and
/// [repeatedly](KEPT_EVERY) after that.
const KEPT_FOR: i64 = 30 * 24 * 3600;
/// The same in a namespace without a grace, such as a temporary one.
const KEPT_WITHOUT_GRACE_FOR: i64 = 3600;
pub(crate) const KEPT_EVERY: Duration = Duration::from_secs(15 * 60);

/// The keys of the epoch.
#[derive(Debug, Clone)]
pub(crate) struct EpochKeys {
    /// The key that holds the epoch, and outlasts the locks.
    epoch: String,
    /// The key that exists during the grace after the first use; nothing is claimed while it exists.
    grace: String,
    grace_for: Duration,
}

/// The time that tokens count from, in microseconds, by the clock of the first client.
///
/// A cluster makes fewer than one write per microsecond. So the time at which its data is lost, in microseconds, is
/// later than all its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Epoch(i64);

impl Epoch {
    /// The token of a lease that revision `created` has created.
    pub(crate) fn token(self, created: i64) -> Token {
        Token::new(u64::try_from(self.0 + created).unwrap_or_default())
    }
}

impl EpochKeys {
    pub(crate) fn new(namespace: &Namespace, grace_for: Duration) -> Self {
        let front = Keys::new(namespace).front().to_owned();
        Self { grace: format!("{front}/"), epoch: front, grace_for }
    }

    /// A key for requests that need any key; it may not exist.
    pub(crate) fn any(&self) -> &str {
        &self.epoch
    }

    /// Reads the epoch, and begins one now if there is none. Also returns the etcd lease that its key is attached to.
    pub(crate) async fn read_or_begin(
        &self,
        mut kv: KvClient,
        mut lease: LeaseClient,
    ) -> Result<(Epoch, i64), CallError> {
        loop {
            let got = kv.get(self.epoch.as_str(), None).await?;
            if let Some(found) = got.kvs().first() {
                let micros = found.value_str().ok().and_then(|value| value.parse().ok());
                return micros.map(|micros| (Epoch(micros), found.lease())).ok_or_else(|| {
                    let reason = format!("another program uses the key {:?}: choose another namespace", self.epoch);
                    CallError::new(Kind::Refused, reason)
                });
            }
            self.begin(&mut kv, &mut lease).await?;
        }
    }

    async fn begin(&self, kv: &mut KvClient, lease: &mut LeaseClient) -> Result<(), CallError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let kept_for = if self.grace_for.is_zero() { KEPT_WITHOUT_GRACE_FOR } else { KEPT_FOR };
        let lasting = lease.grant(kept_for, None).await?.id();
        let kept = PutOptions::new().with_lease(lasting);
        let mut ops = vec![TxnOp::put(self.epoch.as_str(), now.to_string(), Some(kept))];
        if !self.grace_for.is_zero() {
            let secs = self.grace_for.as_secs() + u64::from(self.grace_for.subsec_nanos() > 0);
            let grace = lease.grant(i64::try_from(secs).unwrap_or(i64::MAX), None).await?;
            let options = PutOptions::new().with_lease(grace.id());
            ops.push(TxnOp::put(self.grace.as_str(), "", Some(options)));
        }
        let is_new = Compare::create_revision(self.epoch.as_str(), CompareOp::Equal, 0);
        kv.txn(Txn::new().when([is_new]).and_then(ops)).await?;
        // The lease of an epoch that another client has begun would stay for as long as an epoch. The one of the grace
        // soon expires by itself. The transaction's answer does not say which epoch it is: a proxy may have sent it
        // twice.
        let begun = kv.get(self.epoch.as_str(), Some(GetOptions::new().with_limit(1))).await?;
        if begun.kvs().first().is_some_and(|epoch| epoch.lease() != lasting) {
            let _expires_later = lease.revoke(lasting).await;
        }
        Ok(())
    }

    /// Checks the rights that locks need, by a transaction that does nothing: etcd also checks the rights of the branch
    /// that is not taken. Before 3.5 etcd lets users write who may only read, if the write is nested as in a claim.
    pub(crate) async fn try_rights(&self, mut kv: KvClient) -> Result<(), CallError> {
        let never = Compare::create_revision(self.epoch.as_str(), CompareOp::Less, 0);
        let all = GetOptions::new().with_prefix().with_limit(1);
        let ops = [TxnOp::get(self.epoch.as_str(), Some(all)), TxnOp::put(self.grace.as_str(), "", None)];
        kv.txn(Txn::new().when([never]).and_then(ops)).await?;
        Ok(())
    }

    /// The conditions of an operation that grants: the epoch is unchanged, and its grace is over. Also the reads for the
    /// case that a condition is not met; [`check`](Self::check) takes their results.
    pub(crate) fn guard(&self, epoch: Epoch) -> ([Compare; 2], [TxnOp; 2]) {
        let same = Compare::value(self.epoch.as_str(), CompareOp::Equal, epoch.0.to_string());
        let is_over = Compare::create_revision(self.grace.as_str(), CompareOp::Equal, 0);
        let grace = TxnOp::get(self.grace.as_str(), Some(GetOptions::new().with_count_only()));
        ([same, is_over], [grace, TxnOp::get(self.epoch.as_str(), None)])
    }

    /// Whether the epoch is unchanged, by the number of keys of the grace and the value of the key of the epoch that a
    /// [guarded](Self::guard) operation has read. An error during the grace, in which nothing is granted.
    pub(crate) fn check(&self, epoch: Epoch, graces: u64, value: Option<&[u8]>) -> Result<bool, CallError> {
        if graces > 0 {
            let reason = format!(
                "this namespace is new in the cluster; in case the cluster has lost its data, clients that held locks \
                 before have up to {:?} to learn of their loss (restart_grace)",
                self.grace_for
            );
            return Err(CallError::new(Kind::Unsent, reason));
        }
        Ok(value.is_some_and(|value| value == epoch.0.to_string().as_bytes()))
    }
}
