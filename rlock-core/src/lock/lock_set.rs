//! Several locks as one.

use std::future::Future;

use super::face::Face;
use super::unseen::Unseen;
use super::{Budget, Guard, LockOptions, LockSetGuard};
use crate::client::Client;
use crate::contract::{ResourceName, Share};
use crate::driver::together;
use crate::error::{ExtendError, InvalidConfig, LockError, RunError};
use crate::lease::Lost;
use crate::metrics::LockKind;
use crate::watchdog::WatchdogConfig;

/// Several locks of one client, of any kinds, that are held together or not at all.
///
/// The set acquires its locks in the order of their names, in whatever order they were added. Therefore two sets with
/// common names never deadlock, on this host or another. Code that takes single locks beside a set has to keep to that
/// order too.
///
/// ```
/// # async fn doc(client: rlock_core::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use rlock_core::LockSet;
///
/// let set = LockSet::new(&client).mutex("account/7")?.mutex("account/3")?.read("rates")?.permits("gateway", 1, 10)?;
/// let guard = set.lock().await?;
/// let token = guard.token("account/7");
/// guard.unlock().await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
///
/// Up to 32 free locks are acquired with one request of the client, if the store takes several claims at a time. While
/// other requests of the client wait, the set may need more.
#[doc(alias = "MultiLock")]
#[derive(Debug, Clone)]
pub struct LockSet {
    client: Client,
    members: Vec<Member>,
}

#[derive(Debug, Clone)]
struct Member {
    face: Face,
    share: Share,
    kind: LockKind,
}

impl LockSet {
    /// A set without locks. It is held at once, and never lost.
    pub fn new(client: &Client) -> Self {
        Self { client: client.clone(), members: Vec::new() }
    }

    /// Adds the mutex called `name`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig::Name`] if the name cannot be used, [`InvalidConfig::NameTwice`] if it is in the set already.
    pub fn mutex(self, name: impl AsRef<str>) -> Result<Self, InvalidConfig> {
        self.with(name, Share::EXCLUSIVE, LockKind::Mutex)
    }

    /// Adds the reader-writer lock called `name`, to read.
    ///
    /// # Errors
    ///
    /// As for [`mutex`](Self::mutex).
    pub fn read(self, name: impl AsRef<str>) -> Result<Self, InvalidConfig> {
        self.with(name, super::rw_lock::READ, LockKind::Read)
    }

    /// Adds the reader-writer lock called `name`, to write.
    ///
    /// # Errors
    ///
    /// As for [`mutex`](Self::mutex).
    pub fn write(self, name: impl AsRef<str>) -> Result<Self, InvalidConfig> {
        self.with(name, super::rw_lock::WRITE, LockKind::Write)
    }

    /// Adds `weight` permits of the semaphore called `name`, which has `permits` permits.
    ///
    /// # Errors
    ///
    /// As for [`mutex`](Self::mutex); [`InvalidConfig::Share`] if `weight` is 0 or greater than `permits`.
    pub fn permits(self, name: impl AsRef<str>, weight: u32, permits: u32) -> Result<Self, InvalidConfig> {
        self.with(name, Share::new(weight, permits)?, LockKind::Semaphore)
    }

    fn with(mut self, name: impl AsRef<str>, share: Share, kind: LockKind) -> Result<Self, InvalidConfig> {
        let face = Face::new(name, &self.client)?;
        if self.resources().any(|resource| resource == face.resource()) {
            return Err(InvalidConfig::NameTwice { resource: face.resource().clone() });
        }
        self.members.push(Member { face, share, kind });
        Ok(self)
    }

    /// The names of the locks, in the order in which they were added.
    pub fn resources(&self) -> impl Iterator<Item = &ResourceName> {
        self.members.iter().map(|member| member.face.resource())
    }

    /// Waits for all locks, by default without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`lock_with`](Self::lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`lock_with`](Self::lock_with).
    pub async fn lock(&self) -> Result<LockSetGuard, LockError> {
        self.lock_with(LockOptions::new()).await
    }

    /// Waits for all locks with `options`. The [`wait`](LockOptions::wait) limits the time for all of them together.
    /// All other options apply to each lock.
    ///
    /// The client renews the locks that it holds until it has acquired all of them, also without a watchdog. If one of
    /// them is lost meanwhile, the set releases all and, after a short pause, waits for all again. A lock that the set
    /// releases before it has all of them is free at once, also with [`hold_at_least`](LockOptions::hold_at_least). While
    /// the set waits for a lock, a try of a later one by others may find it taken for a moment.
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::lock_with`](crate::SimpleLock::lock_with), about the first lock that was not acquired, or
    /// that the store did not extend at the end. The set then holds no lock.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases all locks and leaves all queues, in the background.
    pub async fn lock_with(&self, options: LockOptions) -> Result<LockSetGuard, LockError> {
        refuse_limit(&options)?;
        let options = options.with_defaults(self.client.defaults());
        let mut wait = Budget::new(&self.client, &options);
        loop {
            let taken = self.take_all(&options, &wait).await.map_err(|error| wait.whole(error))?;
            match self.finish(taken, &options).await? {
                Ok(guard) => return Ok(guard),
                Err(lost) => self.pause_after(&lost, &mut wait).await?,
            }
        }
    }

    /// Takes all locks if each is free and has no waiter.
    ///
    /// # Errors
    ///
    /// As for [`try_lock_with`](Self::try_lock_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`lock_with`](Self::lock_with).
    #[must_use = "the locks are held only while their guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub async fn try_lock(&self) -> Result<Option<LockSetGuard>, LockError> {
        self.try_lock_with(LockOptions::new()).await
    }

    /// Takes all locks with `options` if each is free and has no waiter; otherwise it holds none of them.
    ///
    /// # Errors
    ///
    /// The error of the first lock that failed. It is no error that others hold a lock: the result is then `None`. A
    /// [`wait`](LockOptions::wait) in the options is refused.
    ///
    /// # Cancel safety
    ///
    /// As for [`lock_with`](Self::lock_with).
    #[must_use = "the locks are held only while their guard is bound to a name, as in `if let Some(_guard) = …`"]
    pub async fn try_lock_with(&self, options: LockOptions) -> Result<Option<LockSetGuard>, LockError> {
        refuse_limit(&options)?;
        let answers = together(self.members.iter().map(|member| member.try_lock(&options))).await;
        let mut taken = Vec::with_capacity(answers.len());
        let mut is_free = true;
        for answer in answers {
            match answer? {
                Some(lock) => taken.push(lock),
                None => is_free = false,
            }
        }
        Ok(is_free.then(|| shown(taken)))
    }

    /// Runs `work` under all locks if each is free and has no waiter, and releases them after `work` has ended. Returns
    /// `None` otherwise, and drops `work` without a poll.
    ///
    /// # Errors
    ///
    /// As for [`try_run_with`](Self::try_run_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`try_run_with`](Self::try_run_with).
    pub async fn try_run<T>(&self, work: impl Future<Output = T>) -> Result<Option<T>, RunError> {
        self.try_run_with(LockOptions::new(), work).await
    }

    /// Runs `work` under all locks with `options`, if each is free and has no waiter; see [`try_run`](Self::try_run).
    ///
    /// # Errors
    ///
    /// As for [`SimpleLock::try_run_with`](crate::SimpleLock::try_run_with).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work` and releases the locks in the background.
    pub async fn try_run_with<T>(
        &self,
        options: LockOptions,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, RunError> {
        match self.try_lock_with(options).await? {
            Some(guard) => Ok(Some(guard.run(work).await?)),
            None => Ok(None),
        }
    }

    /// The locks of all members, in the order in which they were added.
    ///
    /// Each round tries all missing locks at once, keeps those before the first one that is not free, and waits for
    /// that one.
    async fn take_all(&self, options: &LockOptions, wait: &Budget) -> Result<Vec<Unseen>, LockError> {
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_unstable_by_key(|&at| self.members[at].face.resource());
        let mut taken: Vec<(usize, Unseen)> = Vec::with_capacity(order.len());
        let tries = options.clone().without_wait();
        while taken.len() < order.len() {
            let left = &order[taken.len()..];
            let answers = together(left.iter().map(|&at| self.members[at].try_lock(&tries))).await;
            let mut free = Vec::with_capacity(answers.len());
            for answer in answers {
                free.push(answer?);
            }
            taken.extend(left.iter().copied().zip(free.into_iter().map_while(|lock| lock)));
            let Some(&next) = order.get(taken.len()) else { break };
            keep_alive(taken.iter().map(|(_, lock)| lock.guard()), options)?;
            let lock = self.members[next].lock(wait.left_of(renewed(options))).await?;
            taken.push((next, lock));
        }
        taken.sort_unstable_by_key(|(at, _)| *at);
        Ok(taken.into_iter().map(|(_, lock)| lock).collect())
    }

    /// Combines the locks, and gives each lease the life that `options` specify. The inner error is the loss of one of
    /// the locks.
    async fn finish(&self, taken: Vec<Unseen>, options: &LockOptions) -> Result<Result<LockSetGuard, Lost>, LockError> {
        if !options.has_watchdog() {
            let ttl = options.parse()?.ttl.get();
            let guards = taken.iter().map(Unseen::guard);
            let watched: Vec<_> = guards.filter_map(|guard| Some((guard, guard.watchdog()?))).collect();
            let extended = together(watched.iter().map(async |(guard, watchdog)| {
                watchdog.stop();
                guard.extend(ttl).await
            }));
            for extended in extended.await {
                match extended {
                    Ok(_) | Err(ExtendError::Lost(_)) => {} // the check below sees a loss
                    Err(ExtendError::InvalidConfig(error)) => return Err(error.into()),
                    Err(ExtendError::Unconfirmed { resource, source }) if source.is_transient() => {
                        return Err(LockError::Unavailable { resource, source });
                    }
                    Err(ExtendError::Unconfirmed { resource, source }) => {
                        return Err(LockError::Rejected { resource, source });
                    }
                }
            }
        }
        let checked = taken.iter().try_for_each(|lock| lock.guard().check());
        Ok(checked.map(|()| shown(taken)))
    }

    /// Pauses after a loss, before the set locks again. Fails if the wait is over.
    async fn pause_after(&self, lost: &Lost, wait: &mut Budget) -> Result<(), LockError> {
        wait.pause().await;
        match wait.spent() {
            Some(wait) => Err(self.client.handle().driver.timed_out(&lost.resource, wait)),
            None => Ok(()),
        }
    }
}

impl Member {
    async fn lock(&self, options: LockOptions) -> Result<Unseen, LockError> {
        self.face.lock(self.share, self.kind, options).await.map(Unseen::new)
    }

    async fn try_lock(&self, options: &LockOptions) -> Result<Option<Unseen>, LockError> {
        Ok(self.face.try_lock(self.share, self.kind, options.clone()).await?.map(Unseen::new))
    }
}

/// The guard of a set that is complete.
fn shown(taken: Vec<Unseen>) -> LockSetGuard {
    LockSetGuard::new(taken.into_iter().map(Unseen::show).collect())
}

/// Starts a watchdog for each guard without one, so that it is renewed while the set waits for the others.
fn keep_alive<'a>(taken: impl Iterator<Item = &'a Guard>, options: &LockOptions) -> Result<(), LockError> {
    if options.has_watchdog() {
        return Ok(());
    }
    for guard in taken.filter(|guard| guard.watchdog().is_none()) {
        match guard.start_watchdog(patient()) {
            Ok(_) | Err(crate::StartWatchdogError::Lost(_)) => {} // seen when all are taken
            Err(crate::StartWatchdogError::InvalidConfig(error)) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The same options with a watchdog, which renews the lock while the set waits for the others.
fn renewed(options: &LockOptions) -> LockOptions {
    let options = options.clone();
    if options.has_watchdog() { options } else { options.watchdog(true).watchdog_config(patient()) }
}

/// A watchdog that continues until the deadline.
fn patient() -> WatchdogConfig {
    WatchdogConfig { max_failures: u32::MAX, ..WatchdogConfig::new() }
}

/// The time of each lock would begin with its own grant, while the set still waits for others.
fn refuse_limit(options: &LockOptions) -> Result<(), InvalidConfig> {
    if options.has_limit() { Err(InvalidConfig::HoldLimitOfSet) } else { Ok(()) }
}
