//! The pool of etcd leases.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{Error, LeaseGrantOptions};
use futures_util::future::join_all;
use rlock_core::{Clock, Moment};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::EtcdConfig;
use crate::epoch::KEPT_EVERY;
use crate::error::{CallError, Kind};
use crate::keep_alive::{KeepAlives, KeptAlive};
use crate::link::Link;

/// The maximum number of spare leases to keep alive, for locks after a pause. All others end with their TTL.
const KEPT: usize = 8;
/// The maximum number of spare leases of one TTL; further ones are revoked.
const MOST: usize = 256;
/// The maximum number of concurrent grants. A server rejects requests when it has thousands of them in flight.
const MOST_GRANTS: usize = 128;
/// The maximum number of concurrent revocations in the background, which delay no grant.
const MOST_REVOKES: usize = 32;
/// The maximum number of concurrent keep-alives of leases that may have expired. Each takes a stream.
const MOST_RESCUES: usize = 64;
/// The shortest TTL that servers grant with their default election timeout.
const USUAL_MIN_TTL: Duration = Duration::from_secs(2);
const TENDED_EVERY: Duration = Duration::from_millis(250);
/// How long to wait for the answer about a lease that may have expired.
const RESCUED_WITHIN: Duration = Duration::from_millis(250);

/// An etcd lease: the keys that are attached to it end with it.
///
/// The etcd lease of a lock must never be attached to another key: each lock would keep the other one alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) id: i64,
    /// Its full TTL, which each keep-alive restores.
    pub(crate) ttl: Duration,
    /// The time at which the request for its grant or its last keep-alive was sent.
    pub(crate) touched: Moment,
}

/// The lifetime of an etcd lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) left: Duration,
    pub(crate) granted: Duration,
}

impl Lease {
    /// The minimum time that it has left.
    pub(crate) fn left(&self, now: Moment) -> Duration {
        self.expires().since(now).min(self.ttl)
    }

    /// The earliest time at which it can expire.
    pub(crate) fn expires(&self) -> Moment {
        self.touched.after(self.ttl)
    }
}

/// Etcd leases without keys, by their TTLs. A lock that takes one needs only one write, that of its own key.
pub(crate) struct Pool {
    link: Arc<Link>,
    keep_alives: KeepAlives,
    clock: Clock,
    /// The shortest TTL that the servers grant.
    min_ttl: Duration,
    granting: Semaphore,
    revoking: Semaphore,
    rescuing: Semaphore,
    stock: Mutex<Stock>,
}

#[derive(Debug, Default)]
struct Stock {
    /// By their TTLs, the most recently used last.
    spares: HashMap<Duration, Vec<Lease>>,
    /// Etcd leases that were taken, and their TTLs. Each is given back once; later attempts to give it back are ignored.
    in_use: HashMap<i64, Duration>,
    /// Etcd leases whose revocation is under way or has failed, and the times by which they have expired.
    ending: HashMap<i64, Moment>,
}

impl Pool {
    /// Opens a pool; two of `tasks` maintain it.
    pub(crate) async fn open(
        link: Arc<Link>,
        config: &EtcdConfig,
        tasks: &mut JoinSet<()>,
    ) -> Result<Arc<Self>, CallError> {
        let clock = Clock::boot();
        let (min_ttl, spares) = match shortest(&link, &clock, config.connect_timeout).await {
            Ok(first) => (first.ttl, HashMap::from([(first.ttl, vec![first])])),
            // A full database grants no leases, but the client must still connect, to examine it.
            Err(error) if error.kind == Kind::Denied => (USUAL_MIN_TTL, HashMap::new()),
            Err(error) => return Err(error),
        };
        let keep_alives = KeepAlives::new(&link, &clock, config.timeout);
        let stock = Stock { spares, ..Stock::default() };
        let [granting, revoking, rescuing] = [MOST_GRANTS, MOST_REVOKES, MOST_RESCUES].map(Semaphore::new);
        let pool =
            Arc::new(Self { link, keep_alives, clock, min_ttl, granting, revoking, rescuing, stock: stock.into() });
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

    /// The TTL to grant for `ttl`: in whole seconds, and at least the minimum.
    pub(crate) fn kept(&self, ttl: Duration) -> Duration {
        let whole = Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0));
        whole.max(self.min_ttl)
    }

    /// Takes a spare lease with this TTL, or grants a new one. A spare one may need a keep-alive first.
    pub(crate) async fn take(&self, ttl: Duration) -> Result<Lease, CallError> {
        let ttl = self.kept(ttl);
        match self.spare(ttl) {
            Some(lease) => Ok(lease),
            None => self.grant(ttl).await,
        }
    }

    pub(crate) async fn grant(&self, ttl: Duration) -> Result<Lease, CallError> {
        let (id, asked) = (rand::random_range(1..i64::MAX), self.kept(ttl));
        let secs = i64::try_from(asked.as_secs()).unwrap_or(i64::MAX);
        let _turn = self.granting.acquire().await;
        let touched = self.now();
        let grant = self.link.call(|conn| async move {
            match conn.lease().grant(secs, Some(LeaseGrantOptions::new().with_id(id))).await.map_err(CallError::from) {
                Ok(granted) => Ok(seconds(granted.ttl())),
                // An earlier copy of the request has granted it, and its answer was lost.
                Err(error) if error.kind == Kind::LeaseExists => Ok(asked),
                Err(error) => Err(error),
            }
        });
        let ttl = grant.await?.value;
        self.stock().in_use.insert(id, ttl);
        Ok(Lease { id, ttl, touched })
    }

    /// Takes back a lease without keys, to which no request in flight can attach one.
    pub(crate) fn give_back(self: &Arc<Self>, lease: Lease) {
        let mut stock = self.stock();
        if stock.in_use.remove(&lease.id).is_none() {
            return;
        }
        let spares = stock.spares.entry(lease.ttl).or_default();
        if spares.len() < MOST {
            spares.push(lease);
        } else {
            drop(stock);
            self.revoke_in_background(lease.id);
        }
    }

    /// Notes that a lease will not be given back.
    pub(crate) fn forget(&self, id: i64) {
        self.stock().in_use.remove(&id);
    }

    /// Revokes a lease, and with it the keys that are attached to it. No late request can attach a key to it after that.
    pub(crate) async fn end(&self, id: i64) -> Result<(), CallError> {
        self.note_ending(id);
        let _turn = self.granting.acquire().await;
        self.revoke_now(id).await?;
        self.forget(id);
        Ok(())
    }

    /// Revokes a lease in the background, and with it the keys that are attached to it, also by a late request. Does
    /// nothing if the lease has [ended](Self::end).
    pub(crate) fn revoke(self: &Arc<Self>, id: i64) {
        if self.stock().in_use.contains_key(&id) {
            self.revoke_in_background(id);
        }
    }

    /// The same for a lease that may have been revoked before.
    pub(crate) fn revoke_in_background(self: &Arc<Self>, id: i64) -> JoinHandle<()> {
        self.note_ending(id);
        self.forget(id);
        let this = self.clone();
        tokio::spawn(async move {
            let _turn = this.revoking.acquire().await;
            if let Err(error) = this.revoke_now(id).await {
                tracing::debug!(%error, "a lease was not revoked; it ends with its TTL");
            }
        })
    }

    /// Whether the revocation of a lease is under way or has failed: it may end at any time.
    pub(crate) fn is_ending(&self, id: i64) -> bool {
        self.stock().ending.contains_key(&id)
    }

    fn note_ending(&self, id: i64) {
        let now = self.now();
        let mut stock = self.stock();
        // A new leader may reset the lease to its full TTL.
        if let Some(ttl) = stock.in_use.get(&id).copied() {
            stock.ending.insert(id, now.after(ttl * 2));
        }
    }

    async fn revoke_now(&self, id: i64) -> Result<(), CallError> {
        let revoke = self.link.call(|conn| async move {
            match conn.lease().revoke(id).await.map_err(CallError::from) {
                Err(error) if error.kind != Kind::NoLease => Err(error),
                _ => Ok(()),
            }
        });
        revoke.await?;
        self.stock().ending.remove(&id);
        Ok(())
    }

    /// Resets a lease to its full TTL. Returns whether the servers know it; see [`KeptAlive::Unknown`].
    pub(crate) async fn touch(&self, lease: &mut Lease) -> Result<bool, CallError> {
        let mut sent = self.now();
        let known = match self.keep_alives.keep_alive(lease.id, lease.expires()).await? {
            KeptAlive::Renewed => true,
            KeptAlive::Unknown => false,
            KeptAlive::Expired => {
                sent = self.now();
                self.rescue(lease.id).await?
            }
        };
        if known {
            lease.touched = lease.touched.max(sent);
        }
        Ok(known)
    }

    /// Keeps a lease alive that may have expired, on a separate stream: a server answers a keep-alive of an expired lease
    /// only once it has revoked the lease, and the later ones on the stream after that.
    async fn rescue(&self, id: i64) -> Result<bool, CallError> {
        let rescue = async {
            let _turn = self.rescuing.acquire().await;
            let kept = self.link.call(|conn| async move {
                match conn.lease().keep_alive(id).await {
                    Ok(_) => Ok(true),
                    Err(Error::LeaseKeepAliveError(_)) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            });
            Ok(kept.await?.value)
        };
        timeout(RESCUED_WITHIN, rescue).await.unwrap_or_else(|_elapsed| {
            let reason = format!(
                "the client tried to keep an etcd lease alive that may have expired, and got no answer within \
                 {RESCUED_WITHIN:?}: a server answers once it has ended an expired lease"
            );
            Err(CallError::new(Kind::Unanswered, reason))
        })
    }

    /// Keeps the epoch alive. If that fails, the next client does it, or a new epoch begins.
    async fn keep_epoch(&self) {
        if let Some(lease) = self.link.another(None).await.epoch_lease() {
            // Its TTL is a multiple of the interval.
            let _kept = self.keep_alives.keep_alive(lease, self.now().after(KEPT_EVERY)).await;
        }
    }

    /// Reads the time that a lease has left, in seconds, rounded down; zero if it does not exist.
    pub(crate) async fn life(&self, id: i64) -> Result<Life, CallError> {
        let life = self.link.call(|conn| async move {
            let life = conn.lease().time_to_live(id, None).await?;
            let (left, granted) = (seconds(life.ttl()), seconds(life.granted_ttl()));
            Ok(Life { left, granted })
        });
        Ok(life.await?.value)
    }

    fn spare(&self, ttl: Duration) -> Option<Lease> {
        let now = self.now();
        let mut stock = self.stock();
        while let Some(lease) = stock.spares.get_mut(&ttl)?.pop() {
            if !lease.left(now).is_zero() {
                stock.in_use.insert(lease.id, lease.ttl);
                return Some(lease);
            }
        }
        None
    }

    /// Drops expired leases, and keeps a few of the spare ones alive.
    async fn tend(&self) {
        let now = self.now();
        let mut due = Vec::new();
        {
            let mut stock = self.stock();
            stock.ending.retain(|_, expired| now < *expired);
            let spares = &mut stock.spares;
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
            // The lease may have been taken meanwhile.
            spares.filter(|lease| lease.id == touched.id).for_each(|lease| lease.touched = touched.touched);
        }
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Grants a lease of the shortest TTL that the servers allow, and retries if a server fails.
async fn shortest(link: &Link, clock: &Clock, within: Duration) -> Result<Lease, CallError> {
    let deadline = Instant::now() + within;
    loop {
        let touched = clock.now();
        // Without an id from this client, each copy of the request gets the granted TTL. An extra lease expires by
        // itself.
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
