//! The locks that contenders want, and how they use them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rlock_core::{Client, Guard, LockError, LockOptions, ResourceName, RwLock, Semaphore, Share, SimpleLock};

/// The locks that contenders want, and how they use them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The TTL of every lock.
    pub ttl: Duration,
    /// Longest time that a lock is held, except for the long holds.
    pub hold: Duration,
    /// Of a hundred holds, the number that last up to three TTLs.
    pub long_holds: u32,
    /// Number of locks that each process wants at a time.
    pub tasks: usize,
    /// Number of mutexes.
    pub mutexes: usize,
    /// Number of reader-writer locks.
    pub rw_locks: usize,
    /// Number of semaphores of three permits.
    pub semaphores: usize,
}

const READERS: u32 = RwLock::MAX_READERS;
const PERMITS: u32 = 3;

/// The lock that a contender wants, and its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Mutex(usize),
    Read(usize),
    Write(usize),
    Permits(usize, u32),
}

/// How long a contender waits for the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Endless,
    For(Duration),
    None,
}

impl Workload {
    /// Two mutexes, a reader-writer lock and a semaphore, of which each process wants two at a time. Most holds last
    /// for a twentieth of the TTL at most, every fifth is a long one.
    pub fn mixed(ttl: Duration) -> Self {
        Self { ttl, hold: ttl / 20, long_holds: 20, tasks: 2, mutexes: 2, rw_locks: 1, semaphores: 1 }
    }

    /// Draws one of the locks.
    pub(super) fn want(&self, chance: &mut StdRng) -> Want {
        let drawn = chance.random_range(0..self.mutexes + self.rw_locks + self.semaphores);
        let (rw_lock, semaphore) = (drawn.checked_sub(self.mutexes), drawn.checked_sub(self.mutexes + self.rw_locks));
        match (rw_lock, semaphore) {
            (_, Some(number)) => Want::Permits(number, chance.random_range(1..=PERMITS)),
            (Some(number), None) if chance.random_bool(0.3) => Want::Write(number),
            (Some(number), None) => Want::Read(number),
            (None, None) => Want::Mutex(drawn),
        }
    }

    pub(super) fn patience(&self, chance: &mut StdRng) -> Patience {
        match chance.random_range(0..10) {
            0 => Patience::None,
            1 => Patience::For(self.ttl.mul_f64(chance.random_range(0.0..1.0))),
            _ => Patience::Endless,
        }
    }
}

impl Want {
    pub(super) fn resource(self) -> ResourceName {
        let name = match self {
            Self::Mutex(number) => format!("mutex-{number}"),
            Self::Read(number) | Self::Write(number) => format!("rw-{number}"),
            Self::Permits(number, _) => format!("semaphore-{number}"),
        };
        ResourceName::new(name).expect("it is short and plain")
    }

    pub(super) fn share(self) -> Share {
        let (weight, capacity) = match self {
            Self::Mutex(_) => (1, 1),
            Self::Read(_) => (1, READERS),
            Self::Write(_) => (READERS, READERS),
            Self::Permits(_, weight) => (weight, PERMITS),
        };
        Share::new(weight, capacity).expect("no weight is above its capacity")
    }

    /// Whether the holder may write.
    pub(super) fn is_exclusive(self) -> bool {
        matches!(self, Self::Mutex(_) | Self::Write(_))
    }

    pub(super) async fn ask(
        self,
        client: &Client,
        ttl: Duration,
        patience: Patience,
    ) -> Result<Option<Guard>, LockError> {
        let name = self.resource();
        let options = LockOptions::new().ttl(ttl);
        let options = if let Patience::For(wait) = patience { options.wait(wait) } else { options };
        let tries = patience == Patience::None;
        match self {
            Self::Mutex(_) => {
                let lock = SimpleLock::new(name, client)?;
                if tries { lock.try_lock_with(options).await } else { lock.lock_with(options).await.map(Some) }
            }
            Self::Read(_) => {
                let lock = RwLock::new(name, client)?;
                if tries { lock.try_read_with(options).await } else { lock.read_with(options).await.map(Some) }
            }
            Self::Write(_) => {
                let lock = RwLock::new(name, client)?;
                if tries { lock.try_write_with(options).await } else { lock.write_with(options).await.map(Some) }
            }
            Self::Permits(_, weight) => {
                let lock = Semaphore::new(name, PERMITS, client)?;
                if tries {
                    lock.try_acquire_many_with(weight, options).await
                } else {
                    lock.acquire_many_with(weight, options).await.map(Some)
                }
            }
        }
    }
}

impl fmt::Display for Workload {
    /// Formats the workload as a line for another process to parse.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ttl, hold, long_holds, tasks, mutexes, rw_locks, semaphores } = self;
        write!(f, "{} {} {long_holds} ", ttl.as_millis(), hold.as_millis())?;
        write!(f, "{tasks} {mutexes} {rw_locks} {semaphores}")
    }
}

impl FromStr for Workload {
    type Err = std::num::ParseIntError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.split(' ').map(str::parse::<u32>);
        let mut next = || words.next().unwrap_or_else(|| "".parse());
        let (ttl, hold, long_holds) = (next()?, next()?, next()?);
        let mut count = || next().map(|count| count as usize);
        Ok(Self {
            ttl: Duration::from_millis(ttl.into()),
            hold: Duration::from_millis(hold.into()),
            long_holds,
            tasks: count()?,
            mutexes: count()?,
            rw_locks: count()?,
            semaphores: count()?,
        })
    }
}
