//! etcd's leases: taken from a pool, and given back to it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::LeaseGrantOptions;
use futures_util::future::join_all;
use rlock_core::{Clock, Moment};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::EtcdConfig;
use crate::epoch::KEPT_EVERY;
use crate::error::{CallError, Kind};
use crate::keeper::Keeper;
use crate::link::Link;

/// How many spare leases are kept alive, for those who come after a pause. All others end when their time is up.
const KEPT: usize = 8;
/// How many spare leases of one TTL there may be; what comes beyond them is revoked.
const MOST: usize = 256;
/// How many leases are granted at a time. A server turns requests away when it has thousands of them under way.
const MOST_GRANTS: usize = 128;
/// How many leases are revoked at a time, beside those that are granted: nobody waits for that.
const MOST_REVOKES: usize = 32;
/// The shortest TTL that servers grant with their usual election timeout.
const USUAL_MIN_TTL: Duration = Duration::from_secs(2);
const TENDED_EVERY: Duration = Duration::from_millis(250);

/// A lease of etcd's: what the keys that are attached to it end with.
///
/// One that belongs to a lock must be attached to nothing else, ever: it would keep that alive as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) id: i64,
    /// The life that it has when it is kept alive.
    pub(crate) ttl: Duration,
    /// When the request was sent that it was granted or last kept alive by.
    pub(crate) touched: Moment,
}

/// How long a lease lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) left: Duration,
    pub(crate) granted: Duration,
    /// Whether it has ended, perhaps without having been revoked.
    pub(crate) is_over: bool,
}

impl Lease {
    /// How long it lives at least.
    pub(crate) fn left(&self, now: Moment) -> Duration {
        self.touched.after(self.ttl).since(now).min(self.ttl)
    }
}

/// Leases that nothing is attached to, by their TTLs. A lock that takes one needs no write but that of its own key.
pub(crate) struct Pool {
    link: Arc<Link>,
    keeper: Keeper,
    clock: Clock,
    /// The shortest TTL that the servers grant.
    min_ttl: Duration,
    granting: Semaphore,
    revoking: Semaphore,
    stock: Mutex<Stock>,
}

#[derive(Debug, Default)]
struct Stock {
    /// By their TTLs, the most recently used last.
    spares: HashMap<Duration, Vec<Lease>>,
    /// Those that were taken. Each comes back once: the others that say that it is free are late.
    in_use: HashSet<i64>,
}

impl Pool {
    /// A pool, which one of `tasks` tends.
    pub(crate) async fn open(
        link: Arc<Link>,
        config: &EtcdConfig,
        tasks: &mut JoinSet<()>,
    ) -> Result<Arc<Self>, CallError> {
        let clock = Clock::boot();
        let (min_ttl, spares) = match shortest(&link, &clock, config.connect_timeout).await {
            Ok(first) => (first.ttl, HashMap::from([(first.ttl, vec![first])])),
            // A full database grants no leases, and has to be looked at all the same.
            Err(error) if error.kind == Kind::Denied => (USUAL_MIN_TTL, HashMap::new()),
            Err(error) => return Err(error),
        };
        let keeper = Keeper::new(&link, config.timeout);
        let stock = Stock { spares, ..Stock::default() };
        let (granting, revoking) = (Semaphore::new(MOST_GRANTS), Semaphore::new(MOST_REVOKES));
        let pool = Arc::new(Self { link, keeper, clock, min_ttl, granting, revoking, stock: stock.into() });
        let keeping = pool.clone();
        tasks.spawn(async move {
            loop {
                keeping.keep_epoch().await;
                tokio::time::sleep(KEPT_EVERY).await;
            }
        });
        let tended = pool.clone();
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(TENDED_EVERY).await;
                tended.tend().await;
            }
        });
        Ok(pool)
    }

    pub(crate) fn min_ttl(&self) -> Duration {
        self.min_ttl
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// What a lease is granted for `ttl`: whole seconds, and not too few.
    pub(crate) fn kept(&self, ttl: Duration) -> Duration {
        let whole = Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0));
        whole.max(self.min_ttl)
    }

    /// A spare lease that lives for `ttl` after it is touched, or a new one.
    pub(crate) async fn take(&self, ttl: Duration) -> Result<Lease, CallError> {
        let ttl = self.kept(ttl);
        match self.spare(ttl) {
            Some(lease) => Ok(lease),
            None => self.grant(ttl).await,
        }
    }

    /// A new lease.
    pub(crate) async fn grant(&self, ttl: Duration) -> Result<Lease, CallError> {
        let (id, asked) = (rand::random_range(1..i64::MAX), self.kept(ttl));
        let secs = i64::try_from(asked.as_secs()).unwrap_or(i64::MAX);
        let _turn = self.granting.acquire().await;
        let touched = self.now();
        let grant = self.link.call(|conn| async move {
            match conn.lease().grant(secs, Some(LeaseGrantOptions::new().with_id(id))).await.map_err(CallError::from) {
                Ok(granted) => Ok(seconds(granted.ttl())),
                // An earlier request, whose answer got lost.
                Err(error) if error.kind == Kind::LeaseExists => Ok(asked),
                Err(error) => Err(error),
            }
        });
        let ttl = grant.await?.value;
        self.stock().in_use.insert(id);
        Ok(Lease { id, ttl, touched })
    }

    /// Takes back a lease that nothing is attached to, nor will be by a request that is under way still.
    pub(crate) fn give_back(self: &Arc<Self>, lease: Lease) {
        let mut stock = self.stock();
        if !stock.in_use.remove(&lease.id) {
            return;
        }
        let spares = stock.spares.entry(lease.ttl).or_default();
        if spares.len() < MOST {
            spares.push(lease);
        } else {
            drop(stock);
            self.revoke(lease.id);
        }
    }

    /// Notes that a lease is never given back.
    pub(crate) fn forget(&self, id: i64) {
        self.stock().in_use.remove(&id);
    }

    /// Ends a lease, and whatever is attached to it or will be, in the background.
    pub(crate) fn revoke(self: &Arc<Self>, id: i64) {
        self.forget(id);
        let this = self.clone();
        tokio::spawn(async move {
            let _turn = this.revoking.acquire().await;
            let revoke = this.link.call(|conn| async move {
                match conn.lease().revoke(id).await.map_err(CallError::from) {
                    Err(error) if error.kind != Kind::NoLease => Err(error),
                    _ => Ok(()),
                }
            });
            if let Err(error) = revoke.await {
                tracing::debug!(%error, "a lease was not revoked; it ends with its TTL");
            }
        });
    }

    /// Gives a lease its whole life again. Whether the servers know it; see [`Keeper::keep_alive`].
    pub(crate) async fn touch(&self, lease: &mut Lease) -> Result<bool, CallError> {
        let now = self.now();
        // A server answers nothing else on the stream until it has revoked a lease that is over.
        if lease.left(now).is_zero() && self.life(lease.id).await?.is_over {
            return Ok(false);
        }
        let known = self.keeper.keep_alive(lease.id).await?;
        if known {
            lease.touched = lease.touched.max(now);
        }
        Ok(known)
    }

    /// Keeps alive what tokens are counted from. Should that fail, the next client does it, or another time begins.
    async fn keep_epoch(&self) {
        if let Some(lease) = self.link.another(None).await.epoch_lease() {
            let _kept = self.keeper.keep_alive(lease).await;
        }
    }

    /// How long a lease lives, to the second, rounded down; not at all if there is none.
    pub(crate) async fn life(&self, id: i64) -> Result<Life, CallError> {
        let life = self.link.call(|conn| async move {
            let life = conn.lease().time_to_live(id, None).await?;
            let (left, granted) = (seconds(life.ttl()), seconds(life.granted_ttl()));
            Ok(Life { left, granted, is_over: life.ttl() < 0 })
        });
        Ok(life.await?.value)
    }

    fn spare(&self, ttl: Duration) -> Option<Lease> {
        let now = self.now();
        let mut stock = self.stock();
        while let Some(lease) = stock.spares.get_mut(&ttl)?.pop() {
            if !lease.left(now).is_zero() {
                stock.in_use.insert(lease.id);
                return Some(lease);
            }
        }
        None
    }

    /// Forgets spare leases that are over, and keeps a few of the others alive.
    async fn tend(&self) {
        let now = self.now();
        let mut due = Vec::new();
        {
            let spares = &mut self.stock().spares;
            spares.values_mut().for_each(|leases| leases.retain(|lease| !lease.left(now).is_zero()));
            spares.retain(|_, leases| !leases.is_empty());
            let mut recent: Vec<_> = spares.values().flat_map(|leases| leases.iter().rev().take(KEPT)).collect();
            recent.sort_by_key(|lease| std::cmp::Reverse(lease.touched));
            due.extend(recent.into_iter().take(KEPT).filter(|lease| lease.left(now) < lease.ttl * 2 / 3).copied());
        }
        let touch = async |mut lease: Lease| self.touch(&mut lease).await.is_ok_and(|known| known).then_some(lease);
        for touched in join_all(due.into_iter().map(touch)).await.into_iter().flatten() {
            let mut stock = self.stock();
            let spares = stock.spares.get_mut(&touched.ttl).into_iter().flatten();
            // It may have been taken meanwhile.
            spares.filter(|lease| lease.id == touched.id).for_each(|lease| lease.touched = touched.touched);
        }
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lease of the shortest TTL that the servers grant. Should a server fail meanwhile, another one is asked.
async fn shortest(link: &Link, clock: &Clock, within: Duration) -> Result<Lease, CallError> {
    let deadline = Instant::now() + within;
    loop {
        let touched = clock.now();
        // Without an id of ours, for each copy to be told what it was granted. One too many ends by itself.
        let grant = link.call(|conn| async move { Ok(conn.lease().grant(1, None).await?) });
        match grant.await {
            Ok(granted) => return Ok(Lease { id: granted.value.id(), ttl: seconds(granted.value.ttl()), touched }),
            Err(error) if error.is_final() || Instant::now() >= deadline => return Err(error),
            Err(_) => {}
        }
    }
}

fn seconds(secs: i64) -> Duration {
    Duration::from_secs(u64::try_from(secs).unwrap_or_default())
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("min_ttl", &self.min_ttl).finish_non_exhaustive()
    }
}
