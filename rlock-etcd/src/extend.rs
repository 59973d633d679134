//! Keeping leases alive.

use std::collections::HashMap;
use std::time::Duration;

use etcd_client::{LeaseTimeToLiveResponse, TxnOp};
use futures_util::future::{join, join_all};
use rlock_core::{BackendError, Extended, Extension, Grant, LeaseKey, Moment, ResourceName};

use crate::error::{CallError, Kind};
use crate::inner::{Inner, foreign};
use crate::line::{Entry, Line, Standing};
use crate::pool::Lease;
use crate::record::Record;
use crate::table::{Known, Place};
use crate::txn::{self, Outcome};

/// How often a lease is attached to another one of etcd's, where others write it meanwhile.
const ATTEMPTS: usize = 16;

/// How long a lease of etcd's lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) left: Duration,
    pub(crate) granted: Duration,
}

/// What was found of a lease.
enum Found {
    Here(Box<Entry>, Option<Line>),
    Gone { taken: bool },
}

/// What is asked about a lease.
enum Question {
    /// Its own key says enough: it is held.
    Key(usize),
    /// Its line.
    Line(usize),
}

impl Inner {
    pub(crate) async fn extend_all(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let begun = self.table.now();
        let known: Vec<_> = extensions.iter().map(|extension| self.table.find(extension.key.id)).collect();
        // A lease is kept alive and looked at together. Only the look tells that it is there still: a server may confirm
        // what it has deleted.
        let touches = extensions.iter().zip(&known).map(|(extension, known)| self.touch_known(begun, extension, known));
        let (found, touched) = join(self.find_all(extensions, &known), join_all(touches)).await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let failure = self.failed(CallError { kind: not_refused_as_a_whole(error.kind), ..error }, "extend");
                return extensions.iter().map(|_| Err(failure.clone())).collect();
            }
        };
        let all = extensions.iter().zip(known).zip(found.into_iter().zip(touched));
        let finish = all.map(|((extension, known), (found, touched))| async move {
            let extended = match found {
                Found::Gone { taken } => Ok(Extended::Gone { taken }),
                Found::Here(entry, line) => self.extended(begun, extension, known, touched, &entry, line).await,
            };
            extended.map_err(|error| self.failed(error, "extend"))
        });
        join_all(finish).await
    }

    /// Keeps the lease of etcd's alive, if it is known, and has less left than it is to have.
    async fn touch_known(
        &self,
        begun: Moment,
        extension: &Extension,
        known: &Option<Known>,
    ) -> Option<Result<Lease, CallError>> {
        let known = known.as_ref()?;
        let (mut lease, ttl) = (known.lease, extension.ttl.get());
        if lease.left(begun) >= ttl || lease.ttl < ttl {
            return Some(Ok(lease));
        }
        match self.pool.touch(&mut lease).await {
            Ok(true) => {
                self.table.touched(known.key.id, lease);
                Some(Ok(lease))
            }
            Ok(false) => {
                let reason = "a server does not know the lease, which is there; it may be behind the others";
                Some(Err(CallError::new(Kind::Unanswered, reason)))
            }
            Err(error) => Some(Err(error)),
        }
    }

    async fn find_all(&self, extensions: &[Extension], known: &[Option<Known>]) -> Result<Vec<Found>, CallError> {
        let (questions, ops) = self.questions(extensions, known);
        let answers = self.look(ops).await?;
        let mut lines = HashMap::new();
        for question in &questions {
            if let Question::Line(at) = question
                && !lines.contains_key(at)
            {
                let (when, outcome) = &answers[*at];
                lines.insert(*at, self.line(*when, outcome)?);
            }
        }
        let mut found = Vec::with_capacity(extensions.len());
        let mut missing = Vec::new();
        for (number, (extension, question)) in extensions.iter().zip(&questions).enumerate() {
            let id = extension.key.id;
            found.push(match question {
                Question::Line(at) => {
                    let line = &lines[at];
                    self.table.seen(id, line);
                    match line.find(id) {
                        Some((entry, _)) => Found::Here(Box::new(entry.clone()), Some(line.clone())),
                        None => Found::Gone { taken: !line.leases.is_empty() },
                    }
                }
                Question::Key(at) => {
                    let (when, Outcome::Found { kvs, .. }) = &answers[*at] else { return Err(foreign()) };
                    match kvs.first().and_then(|kv| Entry::read(&self.keys, when.epoch, kv)) {
                        Some(entry) => {
                            self.table.held(id, when.revision);
                            Found::Here(Box::new(entry), None)
                        }
                        None => {
                            self.table.gone(id, when.revision);
                            missing.push(number);
                            Found::Gone { taken: false }
                        }
                    }
                }
            });
        }
        let counts = missing.iter().map(|&at| txn::count(&self.keys.line(&extensions[at].key.resource))).collect();
        for (at, (_, outcome)) in missing.into_iter().zip(self.look(counts).await?) {
            let Outcome::Found { count, .. } = outcome else { return Err(foreign()) };
            found[at] = Found::Gone { taken: count > 0 };
        }
        Ok(found)
    }

    /// What to ask about each lease. A line is asked for once, however many of its leases are extended.
    fn questions(&self, extensions: &[Extension], known: &[Option<Known>]) -> (Vec<Question>, Vec<TxnOp>) {
        let mut ops = Vec::new();
        let mut lines: HashMap<&ResourceName, usize> = HashMap::new();
        let mut questions = Vec::with_capacity(extensions.len());
        for (extension, known) in extensions.iter().zip(known) {
            if known.as_ref().is_some_and(|known| known.place == Place::Held) {
                questions.push(Question::Key(ops.len()));
                ops.push(txn::lease(&self.keys.lease(&extension.key)));
                continue;
            }
            let at = *lines.entry(&extension.key.resource).or_insert(ops.len());
            if at == ops.len() {
                ops.push(txn::line(&self.keys.line(&extension.key.resource)));
            }
            questions.push(Question::Line(at));
        }
        (questions, ops)
    }

    /// Finishes the extension of a lease that is there.
    async fn extended(
        &self,
        begun: Moment,
        extension: &Extension,
        known: Option<Known>,
        touched: Option<Result<Lease, CallError>>,
        entry: &Entry,
        line: Option<Line>,
    ) -> Result<Extended, CallError> {
        let ours = known.filter(|known| known.is(entry) && known.lease.id == entry.lease);
        let lease = match (&ours, touched) {
            (Some(_), Some(lease)) => lease?,
            // Another client's, or one that was attached to another lease of etcd's when nobody heard of it.
            _ => match self.touch_foreign(extension, entry).await? {
                Some(lease) => lease,
                None => return self.gone(&extension.key).await,
            },
        };
        let ttl = extension.ttl.get();
        let lease = if lease.left(begun) >= ttl || ttl <= lease.ttl {
            lease
        } else {
            match self.attach(extension, entry, ours).await? {
                Some(lease) => lease,
                None => return self.gone(&extension.key).await,
            }
        };
        let standing =
            line.as_ref().and_then(|line| line.find(entry.id)).map_or(Standing::Held, |(_, standing)| standing);
        Ok(match (standing, &line) {
            (Standing::Queued(_), Some(line)) => Extended::Queued(self.place(line, entry, standing)),
            _ => Extended::Held(Grant { token: entry.token, ttl: lease.left(begun) }),
        })
    }

    /// Keeps a lease of etcd's alive of which only its number is known, if it has less left than it is to have; `None` if it
    /// has ended meanwhile.
    async fn touch_foreign(&self, extension: &Extension, entry: &Entry) -> Result<Option<Lease>, CallError> {
        let asked = self.table.now();
        let life = self.life(entry.lease).await?;
        let touched = asked.before(life.granted.saturating_sub(life.left));
        let mut lease = Lease { id: entry.lease, ttl: life.granted, touched };
        let ttl = extension.ttl.get();
        if life.left < ttl && ttl <= life.granted && !self.pool.touch(&mut lease).await? {
            return Ok(None);
        }
        if self.table.find(extension.key.id).is_some_and(|known| known.lease.id != lease.id) {
            // One that may have come to belong to it by a request whose answer was lost is used for nothing else.
            self.table.touched(extension.key.id, lease);
            self.table.taint(extension.key.id);
        }
        Ok(Some(lease))
    }

    /// Attaches a lease to another one of etcd's, which lives longer; `None` if it is gone.
    async fn attach(
        &self,
        extension: &Extension,
        entry: &Entry,
        ours: Option<Known>,
    ) -> Result<Option<Lease>, CallError> {
        let (id, key) = (extension.key.id, self.keys.lease(&extension.key));
        let lease = self.pool.grant(extension.ttl.get()).await?;
        let mut entry = entry.clone();
        for _ in 0..ATTEMPTS {
            let record = Record { ttl: i64::try_from(lease.ttl.as_secs()).unwrap_or(i64::MAX), ..entry.record.clone() };
            let txn = txn::attach(&key, entry.written, lease.id, &record);
            let attached = self.link.call(|conn| {
                let txn = txn.clone();
                async move { txn::run_if(&conn, txn).await }
            });
            // Without an answer, the new lease may be what the key is attached to: the next extension finds that out. It ends
            // by itself otherwise. A server that runs out of space may have carried out the write that it denies.
            let attached = attached.await.map_err(|error| match error.kind {
                Kind::Denied => CallError { kind: Kind::Unanswered, ..error },
                _ => error,
            })?;
            if attached.value {
                if let Some(known) = ours {
                    self.table.attached(id, lease, attached.repeated);
                    self.table.take_back(known);
                }
                return Ok(Some(lease));
            }
            let (at, outcome) = self.look(vec![txn::lease(&key)]).await?.pop().ok_or_else(foreign)?;
            let Outcome::Found { kvs, .. } = outcome else { return Err(foreign()) };
            match kvs.first().and_then(|kv| Entry::read(&self.keys, at.epoch, kv)) {
                Some(now) if now.lease == lease.id => {
                    // By a request of ours that was carried out twice.
                    self.table.attached(id, lease, true);
                    return Ok(Some(lease));
                }
                Some(now) if now.created == entry.created && now.record.ttl < record.ttl => entry = now,
                // Somebody else has attached it to one that lives long enough.
                Some(now) if now.created == entry.created => {
                    self.pool.revoke(lease.id);
                    return self.touch_foreign(extension, &now).await;
                }
                _ => {
                    self.pool.revoke(lease.id);
                    return Ok(None);
                }
            }
        }
        self.pool.revoke(lease.id);
        Err(CallError::new(Kind::Unsent, "others keep writing the lease"))
    }

    /// What to say of a lease whose lease of etcd's has ended: that it is gone, unless it was attached to another one.
    async fn gone(&self, key: &LeaseKey) -> Result<Extended, CallError> {
        let ops = vec![txn::lease(&self.keys.lease(key)), txn::count(&self.keys.line(&key.resource))];
        match &self.look(ops).await?[..] {
            [(_, Outcome::Found { kvs, .. }), (_, Outcome::Found { count, .. })] if kvs.is_empty() => {
                Ok(Extended::Gone { taken: *count > 0 })
            }
            [(_, Outcome::Found { .. }), _] => Err(CallError::new(
                Kind::Unanswered,
                "the lease was attached to another one of etcd's while it was extended",
            )),
            _ => Err(foreign()),
        }
    }

    /// How long a lease of etcd's lives, to the second, rounded down; not at all if there is none.
    pub(crate) async fn life(&self, lease: i64) -> Result<Life, CallError> {
        let life = self.link.call(|conn| async move {
            let life: LeaseTimeToLiveResponse = conn.lease().time_to_live(lease, None).await?;
            let seconds = |secs: i64| Duration::from_secs(u64::try_from(secs).unwrap_or_default());
            Ok(Life { left: seconds(life.ttl()), granted: seconds(life.granted_ttl()) })
        });
        Ok(life.await?.value)
    }
}

/// Where only the look failed, something may have been kept alive.
fn not_refused_as_a_whole(kind: Kind) -> Kind {
    if kind == Kind::Unsent { Kind::Unanswered } else { kind }
}
