//! Runs scripts over batches of entries.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use rlock_core::{BackendError, Failure, LeaseKey, Release, ResourceName, Ttl};

use crate::RedisBackend;
use crate::answers::{Answer, Unreadable};
use crate::error::{CallError, READONLY, code_of};
use crate::keys::Keys;
use crate::route::{Purpose, Replied};
use crate::scripts::Script;
use crate::set_use::SetUse;
use crate::silent_spell::SUSPICIOUS;
use crate::stragglers::without_stragglers;
use crate::wire::{Args, Reply};

/// The maximum number of entries in a script call. The server does nothing else meanwhile, so this limits the delay of
/// other requests to about a millisecond.
const CHUNK: usize = 256;

/// From this number of entries on, the keys of the sets cost a server more than an occasional second call.
const LARGE: usize = 16;

/// The keys in a call.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sent {
    /// The strings of the resources, then their sets.
    WithSets,
    Strings,
}

/// The way to make the requests of a verb.
pub(crate) struct Verb<'a, E> {
    pub(crate) operation: &'static str,
    pub(crate) purpose: Purpose,
    pub(crate) script: &'static Script,
    /// The same without the sets of the resources. It leaves the entries undecided that need one.
    pub(crate) without_sets: &'static Script,
    /// The verb's recent use of sets, if a call may omit them.
    pub(crate) set_use: Option<&'a SetUse>,
    pub(crate) key: fn(&E) -> &LeaseKey,
    pub(crate) arguments: &'a (dyn Fn(&mut Args, &[&E]) + Sync),
    /// Splits a reply into the answers to this number of entries.
    pub(crate) split: fn(&Reply, usize) -> Result<Vec<Answer>, Unreadable>,
    /// The time that a server of a cluster has for its answers after another one has answered.
    pub(crate) patience: Duration,
}

/// The patience for leases with these TTLs. A server that hangs must not delay the answers of the others until the
/// deadlines of their leases have passed. It takes longer than a silent connection needs to become suspicious.
pub(crate) fn patience(ttls: impl Iterator<Item = Ttl>) -> Duration {
    let shortest = ttls.map(Ttl::get).min().unwrap_or_default();
    (SUSPICIOUS * 3 / 2).max(shortest / 8)
}

/// The patience for claims with these TTLs. A server that is slower than [`SUSPICIOUS`] drops a claim as late, and the
/// client sends it again.
pub(crate) fn claim_patience(ttls: impl Iterator<Item = Ttl>) -> Duration {
    patience(ttls).max(SUSPICIOUS * 3)
}

impl RedisBackend {
    /// Runs a script over a batch, in concurrent parts, and reads its answers.
    pub(crate) async fn batch<E: Sync, T>(
        &self,
        verb: &Verb<'_, E>,
        entries: &[E],
        read: impl Fn(&Answer, &E) -> Result<Result<T, BackendError>, Unreadable> + Sync,
    ) -> Vec<Result<T, BackendError>> {
        let read = |answer: Result<Answer, BackendError>, entry: &E| {
            read(&answer?, entry).unwrap_or_else(|error| Err(self.failed(error, verb.operation)))
        };
        let set_use = verb.set_use.filter(|set_use| entries.len() >= LARGE && set_use.may_omit());
        if !self.route.is_by_bucket() && (1..=CHUNK).contains(&entries.len()) {
            let answers = self.part(verb, 0, &entries.iter().collect::<Vec<_>>(), set_use).await;
            return answers.into_iter().zip(entries).map(|(answer, entry)| read(answer, entry)).collect();
        }
        let bucket = |entry| if self.route.is_by_bucket() { bucket(verb, entry) } else { 0 };
        let mut sorted: Vec<(u16, usize)> = (0..entries.len()).map(|at| (bucket(&entries[at]), at)).collect();
        sorted.sort_unstable();
        let parts: Vec<&[(u16, usize)]> =
            sorted.chunk_by(|a, b| a.0 == b.0).flat_map(|same| same.chunks(CHUNK)).collect();
        let calls = parts.iter().enumerate().map(|(number, part)| {
            let bucket = part[0].0;
            let entries: Vec<&E> = part.iter().map(|(_, at)| &entries[*at]).collect();
            async move { (number, self.part(verb, bucket, &entries, set_use).await) }
        });
        let calls: FuturesUnordered<_> = calls.collect();
        let patience = if self.route.is_by_bucket() { verb.patience } else { Duration::MAX };
        let answers = without_stragglers(calls, patience, |answers| answers.iter().any(Result::is_ok)).await;
        let silent = |part: &&[(u16, usize)]| {
            let reason = "this server of the cluster has not answered, although others have: it is stuck or slow";
            let error = BackendError::Unknown(Failure::new(verb.operation, self.store.clone(), reason));
            vec![Err(error); part.len()]
        };
        let answers = answers.into_iter().zip(&parts).flat_map(|(part, keys)| part.unwrap_or_else(|| silent(keys)));
        let mut in_order: Vec<_> = sorted.iter().map(|(_, at)| *at).zip(answers).collect();
        in_order.sort_unstable_by_key(|(at, _)| *at);
        in_order.into_iter().zip(entries).map(|((_, answer), entry)| read(answer, entry)).collect()
    }

    /// Runs a script over entries of one bucket.
    ///
    /// Most leases hold their resources alone. So with a [`SetUse`] a large call first omits the sets, which the server
    /// would read in vain, and a second call decides the entries that need theirs. Claims go with their sets at once,
    /// because a second call would let later claims overtake them.
    async fn part<E: Sync>(
        &self,
        verb: &Verb<'_, E>,
        bucket: u16,
        entries: &[&E],
        set_use: Option<&SetUse>,
    ) -> Vec<Result<Answer, BackendError>> {
        let Some(set_use) = set_use.filter(|_| entries.len() >= LARGE) else {
            return self.with_sets(verb, bucket, entries).await;
        };
        let mut answers = match self.run(verb, Sent::Strings, bucket, entries).await {
            Ok(answers) => answers,
            Err(error) if error.is_refusal_with("TRYAGAIN") => return self.with_sets(verb, bucket, entries).await,
            Err(error) => return self.all_failed(verb, error, entries.len()),
        };
        let is_undecided = |answer: &Result<Answer, _>| answer.as_ref().is_ok_and(Answer::is_undecided);
        let undecided: Vec<usize> = (0..entries.len()).filter(|&at| is_undecided(&answers[at])).collect();
        set_use.record(undecided.len(), entries.len());
        if !undecided.is_empty() {
            let rest: Vec<&E> = undecided.iter().map(|&at| entries[at]).collect();
            let decided = self.with_sets(verb, bucket, &rest).await;
            undecided.into_iter().zip(decided).for_each(|(at, answer)| answers[at] = answer);
        }
        answers
    }

    async fn with_sets<E: Sync>(
        &self,
        verb: &Verb<'_, E>,
        bucket: u16,
        entries: &[&E],
    ) -> Vec<Result<Answer, BackendError>> {
        match self.run(verb, Sent::WithSets, bucket, entries).await {
            // The slot is moving to another server, and each of the two keys of a resource may be on either. Without a
            // set, the string is enough.
            Err(error) if self.route.is_by_bucket() && error.is_refusal_with("TRYAGAIN") => {
                let one = async |entry: &&E| match self.run(verb, Sent::Strings, bucket, &[entry]).await {
                    Ok(mut answers) => match answers.pop().expect("one entry has one answer") {
                        Ok(answer) if answer.is_undecided() => Err(self.call_failed(error.clone(), verb.operation)),
                        answer => answer,
                    },
                    Err(error) => Err(self.call_failed(error, verb.operation)),
                };
                join_all(entries.iter().map(one)).await
            }
            Ok(answers) => answers,
            Err(error) => self.all_failed(verb, error, entries.len()),
        }
    }

    fn all_failed<E>(&self, verb: &Verb<'_, E>, error: CallError, count: usize) -> Vec<Result<Answer, BackendError>> {
        vec![Err(self.call_failed(error, verb.operation)); count]
    }

    async fn run<E>(
        &self,
        verb: &Verb<'_, E>,
        sent: Sent,
        bucket: u16,
        entries: &[&E],
    ) -> Result<Vec<Result<Answer, BackendError>>, CallError> {
        let resources = entries.iter().map(|entry| &(verb.key)(entry).resource);
        let build = |args: &mut Args| {
            self.add_keys(args, sent, resources.clone());
            (verb.arguments)(args, entries);
        };
        let script = match sent {
            Sent::WithSets => verb.script,
            Sent::Strings => verb.without_sets,
        };
        let answered = self.route.run(bucket, verb.purpose, script, build).await?;
        let answers = match (verb.split)(&answered.reply, entries.len()) {
            Ok(answers) => answers,
            Err(error) => {
                let error = self.failed(error, verb.operation);
                return Ok(entries.iter().map(|_| Err(error.clone())).collect());
            }
        };
        leave_replica(&answered, &answers);
        if let Some(confirmer) = &self.confirmer
            && answers.iter().any(Answer::is_held)
        {
            if verb.purpose == Purpose::Claim {
                return Ok(self.confirmed(verb, bucket, &answered, answers, entries).await);
            }
            let held = answers.iter().zip(entries).filter(|(answer, _)| answer.is_held());
            confirmer.found(&answered, held.map(|(_, entry)| (verb.key)(entry).id));
        }
        Ok(answers.into_iter().map(Ok).collect())
    }

    /// Releases the grants of claims again, unless replicas have confirmed them.
    async fn confirmed<E>(
        &self,
        verb: &Verb<'_, E>,
        bucket: u16,
        answered: &Replied,
        answers: Vec<Answer>,
        entries: &[&E],
    ) -> Vec<Result<Answer, BackendError>> {
        let Some(wanted) = self.config.replicas else { return answers.into_iter().map(Ok).collect() };
        let found = match answered.primary.confirmed(&answered.conn, self.keys.confirmed(bucket)).await {
            Ok(found) if found >= wanted.count.into() => return answers.into_iter().map(Ok).collect(),
            found => found,
        };
        let granted = answers.iter().zip(entries).filter(|(answer, _)| answer.is_held());
        let releases: Vec<_> =
            granted.map(|(_, entry)| Release { key: (verb.key)(entry).clone(), rest: Duration::ZERO }).collect();
        let mut released = match &found {
            Ok(_) => self.give_back(&releases).await.into_iter(),
            Err(_) => Vec::new().into_iter(), // core repeats the claim, or releases it
        };
        let reason = match found {
            Ok(found) => format!(
                "{found} of {} replicas confirmed the grant within {:?} (wait_replicas, wait_timeout), so it was \
                 released",
                wanted.count, wanted.within
            ),
            Err(error) => error.to_string(),
        };
        let mut give_back = |answer: Answer| {
            if !answer.is_held() {
                return Ok(answer);
            }
            let failure = Failure::new(verb.operation, self.store.clone(), reason.clone());
            match released.next() {
                Some(Ok(_)) => Err(BackendError::NotApplied(failure)),
                _ => Err(BackendError::Unknown(failure)),
            }
        };
        answers.into_iter().map(&mut give_back).collect()
    }

    /// Runs a script on one bucket, without a verb.
    pub(crate) async fn answers(
        &self,
        operation: &'static str,
        bucket: u16,
        script: &Script,
        build: impl Fn(&mut Args),
        read: impl Fn(&Reply) -> Result<Vec<Answer>, Unreadable>,
    ) -> Result<Vec<Answer>, BackendError> {
        let run = self.route.run(bucket, Purpose::Other, script, build).await;
        let answered = run.map_err(|error| self.call_failed(error, operation))?;
        let answers = read(&answered.reply).map_err(|error| self.failed(error, operation))?;
        leave_replica(&answered, &answers);
        Ok(answers)
    }

    /// Adds the number of keys, and the keys.
    pub(crate) fn add_keys<'a>(
        &self,
        args: &mut Args,
        sent: Sent,
        resources: impl ExactSizeIterator<Item = &'a ResourceName> + Clone,
    ) {
        let keys_each = if sent == Sent::WithSets { 2 } else { 1 };
        let count = resources.len() * keys_each;
        args.reserve(count + 4);
        args.number(count as u64);
        let length: usize = resources.clone().map(|resource| self.keys.longest(resource)).sum();
        let mut buffer = BytesMut::with_capacity(length * keys_each);
        self.keys.append(resources, sent == Sent::WithSets, &mut buffer, |buffer| args.piece(buffer));
    }
}

fn bucket<E>(verb: &Verb<'_, E>, entry: &E) -> u16 {
    Keys::bucket(&(verb.key)(entry).resource)
}

/// Gives up a connection that leads to a replica.
fn leave_replica(answered: &Replied, answers: &[Answer]) {
    let is_replicas = |answer: &Answer| matches!(answer, Answer::Failed(text) if code_of(text) == READONLY);
    if answers.iter().any(is_replicas) {
        answered.conn.give_up();
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    fn ttl(secs: u64) -> Ttl {
        Ttl::new(Duration::from_secs(secs)).unwrap()
    }

    #[test]
    fn late_claim_can_be_repeated_within_the_patience() {
        let (brief, long) = (iter::once(ttl(2)), [ttl(600), ttl(40)].into_iter());
        assert!(claim_patience(brief) > SUSPICIOUS * 2);
        assert_eq!(claim_patience(long), Duration::from_secs(5));
    }
}
