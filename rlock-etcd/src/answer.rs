//! Runs transactions and reads their answers.

use etcd_client::{GetResponse, KeyValue, ResponseHeader, Txn, TxnOp, TxnOpResponse, TxnResponse};

use crate::conn::Conn;
use crate::error::{CallError, Kind};
use crate::line::Entry;
use crate::txn::{At, Conditional};

/// The result of a transaction: an outcome for each operation.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) at: At,
    pub(crate) outcomes: Vec<Outcome>,
}

/// The result of one operation.
#[derive(Debug)]
pub(crate) enum Outcome {
    Found(Found),
    /// An operation with conditions.
    Decided(Decided),
    /// An unconditional write or deletion.
    Written,
}

/// The keys that a read returned.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) kvs: Vec<KeyValue>,
    /// The number of keys in the range; `kvs` may hold only some of them.
    pub(crate) count: u64,
}

/// The result of an operation with conditions, which may be nested.
#[derive(Debug)]
pub(crate) struct Decided {
    /// Whether the conditions were met.
    pub(crate) met: bool,
    /// Outcomes of the branch that was taken.
    pub(crate) outcomes: Vec<Outcome>,
}

impl Outcome {
    pub(crate) fn found(self) -> Result<Found, CallError> {
        match self {
            Self::Found(found) => Ok(found),
            _ => Err(foreign()),
        }
    }

    pub(crate) fn decided(self) -> Result<Decided, CallError> {
        match self {
            Self::Decided(decided) => Ok(decided),
            _ => Err(foreign()),
        }
    }
}

impl Found {
    /// The leases among the keys, which begin with `front`.
    pub(crate) fn leases(&self, front: &str, at: At) -> Vec<Entry> {
        self.kvs.iter().filter_map(|kv| Entry::read(front, at.epoch, kv)).collect()
    }

    /// The lease at the only key of the range.
    pub(crate) fn lease(&self, front: &str, at: At) -> Option<Entry> {
        self.kvs.first().and_then(|kv| Entry::read(front, at.epoch, kv))
    }
}

impl Decided {
    /// The last outcome of the branch.
    pub(crate) fn last(mut self) -> Result<Outcome, CallError> {
        self.outcomes.pop().ok_or_else(foreign)
    }
}

pub(crate) fn foreign() -> CallError {
    CallError::new(Kind::Unanswered, "etcd returned an unexpected response type")
}

/// Runs operations in one transaction.
pub(crate) async fn run(conn: &Conn, ops: Vec<TxnOp>) -> Result<Done, CallError> {
    let expected = ops.len();
    let response = conn.kv().txn(Txn::new().and_then(ops)).await?;
    let outcomes = outcomes(&response);
    if outcomes.len() == expected {
        return Ok(Done { at: at(conn, &response), outcomes });
    }
    Err(miscounted(outcomes.len(), expected))
}

/// Runs operations that grant. They fail during the restart grace, in which former holders may not know that the
/// cluster has lost their locks.
pub(crate) async fn run_granting(conn: &Conn, ops: Vec<Conditional>) -> Result<Done, CallError> {
    let (expected, keys) = (ops.len(), conn.keys());
    let (conditions, reads) = keys.guard(conn.epoch());
    let guarded = Conditional::all(ops).guarded(conditions, reads);
    let response = conn.kv().txn(Txn::from(guarded)).await?;
    let (at, met) = (at(conn, &response), response.succeeded());
    let mut outcomes = outcomes(&response);
    if !met {
        // The guard puts its reads in front of the others.
        let own = outcomes.split_off(outcomes.len().min(2));
        let found: Result<Vec<Found>, _> = outcomes.into_iter().map(Outcome::found).collect();
        let found = found?;
        let [grace, now] = &found[..] else { return Err(foreign()) };
        if !keys.check(conn.epoch(), grace.count, now.kvs.first().map(KeyValue::value))? {
            conn.give_up();
            return Err(CallError::new(Kind::Unsent, "the cluster has lost its data; the client reconnects"));
        }
        outcomes = own;
    }
    match expected {
        1 => Ok(Done { at, outcomes: vec![Outcome::Decided(Decided { met, outcomes })] }),
        _ if outcomes.len() == expected => Ok(Done { at, outcomes }),
        _ => Err(miscounted(outcomes.len(), expected)),
    }
}

/// Runs a conditional transaction. Returns its revision if its conditions were met.
pub(crate) async fn run_if(conn: &Conn, txn: Txn) -> Result<Option<i64>, CallError> {
    let response = conn.kv().txn(txn).await?;
    Ok(response.succeeded().then(|| response.header().map_or(0, ResponseHeader::revision)))
}

fn at(conn: &Conn, response: &TxnResponse) -> At {
    At { revision: response.header().map_or(0, ResponseHeader::revision), epoch: conn.epoch() }
}

fn miscounted(answers: usize, expected: usize) -> CallError {
    CallError::new(Kind::Unanswered, format!("etcd gave {answers} answers to {expected} operations"))
}

fn outcomes(response: &TxnResponse) -> Vec<Outcome> {
    response.op_responses().into_iter().map(outcome).collect()
}

fn outcome(response: TxnOpResponse) -> Outcome {
    match response {
        TxnOpResponse::Get(get) => Outcome::Found(found(get)),
        TxnOpResponse::Txn(nested) => {
            Outcome::Decided(Decided { met: nested.succeeded(), outcomes: outcomes(&nested) })
        }
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) => Outcome::Written,
    }
}

fn found(mut get: GetResponse) -> Found {
    let count = u64::try_from(get.count()).unwrap_or_default();
    Found { kvs: get.take_kvs(), count }
}
