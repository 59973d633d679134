//! What is asked of etcd in one transaction, and how its answers read.

use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, KeyValue, PutOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse,
    TxnResponse,
};

use crate::conn::Conn;
use crate::epoch::Epoch;
use crate::error::{CallError, Kind};
use crate::record::Record;

/// How many entries of a batch go into one transaction. Servers take 128 operations, counting all levels of one inside
/// another (`--max-txn-ops`).
pub(crate) const CHUNK: usize = 64;

/// A claim on a place in a line, and what it is to find there.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) line: String,
    pub(crate) key: String,
    pub(crate) lease: i64,
    /// What is written if the lease is held at once because nobody else has one.
    pub(crate) granted: Record,
    /// What is written otherwise.
    pub(crate) asked: Record,
}

/// Joins the line, unless the lease is there already, or others have another capacity. Answers with the line, unless the
/// lease is alone in it.
pub(crate) fn join(put: &Put) -> TxnOp {
    let absent = Compare::create_revision(put.key.as_str(), CompareOp::Equal, 0);
    let alone = Compare::create_revision(put.line.as_str(), CompareOp::Equal, 0).with_prefix();
    let capacity = put.asked.share.capacity();
    let all = |is, bound: String| Compare::value(put.line.as_str(), is, bound).with_prefix();
    let beside = Txn::new()
        .when([
            absent,
            all(CompareOp::Greater, Record::from_capacity(capacity)),
            all(CompareOp::Less, Record::to_capacity(capacity)),
        ])
        .and_then([write(put, &put.asked), line(&put.line)])
        .or_else([line(&put.line)]);
    let join = Txn::new().when([alone]).and_then([write(put, &put.granted)]).or_else([TxnOp::txn(beside)]);
    TxnOp::txn(join)
}

/// Joins a line that had room, unless anybody has joined it after `revision`; then it answers with the line.
pub(crate) fn enter(put: &Put, revision: i64) -> TxnOp {
    let unchanged = Compare::create_revision(put.line.as_str(), CompareOp::Less, revision + 1).with_prefix();
    let enter = Txn::new().when([unchanged]).and_then([write(put, &put.granted)]).or_else([line(&put.line)]);
    TxnOp::txn(enter)
}

/// Attaches a lease to another one of etcd's, if nobody has written it since that revision.
pub(crate) fn attach(key: &str, written: i64, lease: i64, record: &Record) -> Txn {
    let options = PutOptions::new().with_lease(lease);
    let same = Compare::mod_revision(key, CompareOp::Equal, written);
    Txn::new().when([same]).and_then([TxnOp::put(key, record.write(), Some(options))])
}

/// Writes something else of a lease, if it is still the one that was created then.
pub(crate) fn rewrite(key: &str, created: i64, record: &Record) -> TxnOp {
    let options = PutOptions::new().with_ignore_lease();
    let same = Compare::create_revision(key, CompareOp::Equal, created);
    TxnOp::txn(Txn::new().when([same]).and_then([TxnOp::put(key, record.write(), Some(options))]))
}

pub(crate) fn delete(key: &str) -> TxnOp {
    TxnOp::delete(key, None)
}

/// All leases of a line.
pub(crate) fn line(front: &str) -> TxnOp {
    TxnOp::get(front, Some(GetOptions::new().with_prefix()))
}

/// How many leases a line has.
pub(crate) fn count(front: &str) -> TxnOp {
    TxnOp::get(front, Some(GetOptions::new().with_prefix().with_count_only()))
}

/// One lease.
pub(crate) fn lease(key: &str) -> TxnOp {
    TxnOp::get(key, None)
}

fn write(put: &Put, record: &Record) -> TxnOp {
    TxnOp::put(put.key.as_str(), record.write(), Some(PutOptions::new().with_lease(put.lease)))
}

/// What came of a transaction.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) at: At,
    pub(crate) answers: Vec<Outcome>,
}

/// When something was so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) revision: i64,
    pub(crate) epoch: Epoch,
}

/// What came of one entry of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    Deleted(bool),
    Found {
        kvs: Vec<KeyValue>,
        count: i64,
    },
    /// It was written, and nothing else has to be known.
    Written,
    /// Nothing that is needed.
    Other,
}

/// Carries out operations all together.
pub(crate) async fn run(conn: &Conn, ops: Vec<TxnOp>) -> Result<Done, CallError> {
    let expected = ops.len();
    let response = conn.kv().txn(Txn::new().and_then(ops)).await?;
    done(conn, &response, expected)
}

/// Carries out operations that grant: not while those who held locks in a cluster that lost them may not know it yet.
pub(crate) async fn run_granting(conn: &Conn, ops: Vec<TxnOp>) -> Result<Done, CallError> {
    let expected = ops.len();
    let response = conn.kv().txn(conn.keys().guard(conn.epoch(), ops)).await?;
    if response.succeeded() {
        return done(conn, &response, expected);
    }
    Err(conn.keys().refusal(conn, &response.op_responses()))
}

fn done(conn: &Conn, response: &TxnResponse, expected: usize) -> Result<Done, CallError> {
    let revision = response.header().map_or(0, ResponseHeader::revision);
    let at = At { revision, epoch: conn.epoch() };
    let answers: Vec<_> = response.op_responses().into_iter().map(outcome).collect();
    if answers.len() == expected {
        return Ok(Done { at, answers });
    }
    Err(CallError::new(Kind::Unanswered, format!("etcd gave {} answers to {expected} operations", answers.len())))
}

/// Carries out a transaction that depends on something; whether that was so.
pub(crate) async fn run_if(conn: &Conn, txn: Txn) -> Result<bool, CallError> {
    Ok(conn.kv().txn(txn).await?.succeeded())
}

/// The line that an operation answers with is the last of what it answers, on whichever level.
fn outcome(response: TxnOpResponse) -> Outcome {
    match response {
        TxnOpResponse::Get(mut get) => found(&mut get),
        TxnOpResponse::Delete(deleted) => Outcome::Deleted(deleted.deleted() > 0),
        TxnOpResponse::Txn(nested) => last(&nested),
        TxnOpResponse::Put(_) => Outcome::Written,
    }
}

fn last(nested: &TxnResponse) -> Outcome {
    nested.op_responses().pop().map_or(Outcome::Other, outcome)
}

fn found(get: &mut GetResponse) -> Outcome {
    let count = get.count();
    Outcome::Found { kvs: get.take_kvs(), count }
}
