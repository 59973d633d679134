//! The locks that a program runs under.

use std::time::Duration;

use futures_util::future::{join, join_all};
use rlock::{Clock, ExtendError, ExtensionFailure, Guard, LockSetGuard, LossReason, Lost, Moment, UnlockError};
use tokio::time::timeout;

/// One lock or several, held as a set. The program may run only while all of them are held.
#[derive(Debug)]
pub(crate) struct Held(LockSetGuard);

impl Held {
    pub(super) fn new(guards: Vec<Guard>) -> Self {
        Self(guards.into())
    }

    pub(super) fn push(&mut self, guard: Guard) {
        let mut guards = std::mem::replace(&mut self.0, Vec::new().into()).into_guards();
        guards.push(guard);
        *self = Self::new(guards);
    }

    /// The names as text for people.
    pub(super) fn names(&self) -> String {
        joined(self.0.guards().iter().map(Guard::resource), ", ")
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.0.guards().iter().map(|guard| guard.resource().to_string()).collect()
    }

    /// The variables for the program: names and tokens, one line each, in the same order.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let names = joined(self.0.guards().iter().map(Guard::resource), "\n");
        let tokens = joined(self.0.guards().iter().map(Guard::token), "\n");
        vec![("RLOCK_NAME".into(), names), ("RLOCK_TOKEN".into(), tokens)]
    }

    /// The time for which all of them are held.
    pub(super) fn remaining(&self) -> Duration {
        self.0.remaining()
    }

    /// The moment up to which all of them are held. The clock is read first: if the process stops in between, the result
    /// is too early, and never too late.
    pub(super) fn deadline(&self) -> Moment {
        let now = Clock::boot().now();
        now.after(self.remaining())
    }

    /// The first lock that is lost, and the reason.
    pub(super) fn loss(&self) -> Option<Lost> {
        let loss = |guard: &Guard| Some(Lost { resource: guard.resource().clone(), reason: guard.loss()? });
        self.0.guards().iter().find_map(loss)
    }

    /// Completes when one of them is lost.
    pub(super) fn lost(&self) -> impl Future<Output = Lost> + 'static {
        self.0.lost()
    }

    /// The last failed extension of one of them.
    pub(super) fn last_failure(&self) -> Option<ExtensionFailure> {
        self.0.guards().iter().find_map(|guard| guard.watchdog()?.status().last_error)
    }

    /// Extends all of them. A loss ends the wait for the others.
    pub(super) async fn extend(&self, ttl: Duration) -> Result<(), ExtendError> {
        tokio::select! {
            biased;
            lost = self.0.lost() => Err(lost.into()),
            extended = self.0.extend(ttl) => extended.map(drop),
        }
    }

    /// Leaves all of them held, each for its TTL from now on, or at least to its old deadline if the store does not confirm
    /// that: then this returns the time left until the first deadline. The wait takes half of that time at most.
    pub(super) async fn hand_over(self, ttl: Duration) -> Result<Option<Duration>, Lost> {
        let extended = timeout(self.remaining() / 2, self.extend(ttl)).await;
        let left = (!matches!(extended, Ok(Ok(())))).then(|| self.remaining());
        self.0.into_guards().into_iter().try_for_each(|guard| guard.into_handle().map(drop))?;
        Ok(left)
    }

    /// Releases all of them in the background, without their minimum hold: no program has run under them.
    pub(super) fn give_back(self) {
        self.0.into_guards().into_iter().for_each(Guard::give_back);
    }

    /// The first of the locks.
    pub(crate) fn into_first(self) -> Option<Guard> {
        self.0.into_guards().into_iter().next()
    }

    /// Releases all of them, up to 32 with one request. Returns the first loss if there is one, or else an error, or else
    /// whether the store has released all of them: one may have ended by itself before the store answered. One that was
    /// absent before counts as such too, if the answer about another delays the request beyond its deadline.
    pub(super) async fn unlock(self) -> Result<bool, UnlockError> {
        let each: Vec<_> = self.0.guards().iter().map(unlock).collect();
        // The set sends the request. Each guard gets the same answer, and is judged at that moment.
        let (_first_error, each) = join(self.0.release(), join_all(each)).await;
        let mut outcome = Ok(true);
        for unlocked in each.into_iter().rev() {
            outcome = match (outcome, unlocked) {
                (Ok(all), Ok(one)) => Ok(all && one),
                (_, Err(lost @ UnlockError::Lost(_))) => Err(lost),
                (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            };
        }
        outcome
    }
}

/// Releases a lock. False if the lock is held now, and the store reports its absence only after its deadline: that is no
/// loss.
fn unlock(guard: &Guard) -> impl Future<Output = Result<bool, UnlockError>> {
    let (clock, remaining) = (Clock::boot(), guard.remaining());
    let deadline = clock.now().after(remaining);
    async move {
        match guard.release().await {
            Err(UnlockError::Lost(Lost { reason: LossReason::Gone, .. }))
                if !remaining.is_zero() && clock.now() >= deadline =>
            {
                Ok(false)
            }
            unlocked => unlocked.map(|()| true),
        }
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn joined(parts: impl Iterator<Item = impl ToString>, separator: &str) -> String {
    parts.map(|part| part.to_string()).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::{FutureExt as _, poll};
    use rlock::memory::MemoryStore;
    use rlock::{Client, ClientBuilder, End, LockOptions, Namespace, SimpleLock};
    use rlock_testkit::faults::{Fault, Faults, Faulty, Verb};
    use tokio::runtime::Handle;
    use tokio::time::sleep;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_secs(1);

    /// Locks in a new store.
    async fn held(names: &[&str], ttl: Duration, builder: ClientBuilder, faults: &Faults) -> (Held, Client) {
        let backend = MemoryStore::new().client(Namespace::default());
        let client = builder.build(Faulty::new(backend, faults.clone()));
        let mut held = Held::new(Vec::new());
        for name in names {
            let lock = SimpleLock::new(name, &client).unwrap();
            held.push(lock.lock_with(LockOptions::new().ttl(ttl)).await.unwrap());
        }
        (held, client)
    }

    #[tokio::test]
    async fn slow_release_delays_no_other() {
        let faults = Faults::none();
        let (held, _client) = held(&["a", "b", "c"], LONG, Client::builder(), &faults).await;
        let ended: Vec<_> = held.0.guards().iter().map(Guard::ended).collect();
        faults.freeze();
        let mut unlocking = pin!(held.unlock());
        assert!(poll!(unlocking.as_mut()).is_pending());
        let ended: Vec<_> = ended.into_iter().map(|ended| ended.now_or_never()).collect();
        assert_eq!(ended, [Some(End::Released); 3]);
        faults.thaw();
        assert!(unlocking.await.unwrap());
    }

    #[tokio::test]
    async fn several_locks_are_released_with_one_request() {
        let faults = Faults::none();
        let (held, _client) = held(&["a", "b", "c"], LONG, Client::builder(), &faults).await;
        assert!(held.unlock().await.unwrap());
        assert_eq!(faults.calls(Verb::Release), 1);
    }

    #[tokio::test]
    async fn loss_of_one_ends_the_extension_of_all() {
        let faults = Faults::none();
        let (mut held, client) = held(&["a"], LONG, Client::builder(), &faults).await;
        let options = LockOptions::new().ttl(SHORT).watchdog(false);
        held.push(SimpleLock::new("b", &client).unwrap().lock_with(options).await.unwrap());
        faults.all(Verb::Extend, Fault::Delay(LONG));
        let extended = timeout(LONG / 2, held.extend(LONG)).await.expect("it does not wait for the other lock");
        assert!(matches!(&extended, Err(ExtendError::Lost(lost)) if lost.resource.as_str() == "b"), "{extended:?}");
    }

    #[tokio::test]
    async fn absence_after_the_deadline_is_no_loss() {
        let faults = Faults::none();
        let (held, _client) = held(&["a"], SHORT, Client::builder(), &faults).await;
        faults.freeze();
        let mut unlocking = pin!(held.unlock());
        assert!(poll!(unlocking.as_mut()).is_pending());
        sleep(SHORT).await;
        faults.thaw();
        assert!(!unlocking.await.unwrap());
    }

    #[tokio::test]
    async fn absence_before_the_deadline_is_a_loss() {
        let faults = Faults::none();
        let (held, client) = held(&["a", "b"], LONG, Client::builder(), &faults).await;
        faults.lose_events(true);
        assert_eq!(client.break_leases("a").await.unwrap(), 1);
        let error = held.unlock().await.unwrap_err();
        assert!(matches!(error, UnlockError::Lost(_)), "{error}");
    }

    #[tokio::test]
    async fn silent_store_does_not_block_a_hand_over() {
        let faults = Faults::none();
        // The lock does not end before the wait does, however slow the machine is.
        let builder = Client::builder().runtime(Handle::current()).clock(Clock::manual());
        let (held, _client) = held(&["a"], SHORT, builder, &faults).await;
        faults.freeze();
        let handed_over = timeout(LONG, held.hand_over(SHORT)).await;
        let left = handed_over.expect("it waits for the store").unwrap();
        assert!(left.is_some_and(|left| left <= SHORT), "{left:?}");
    }
}
