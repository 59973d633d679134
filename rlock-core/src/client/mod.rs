//! The client of a store.

mod builder;
mod handle;
mod home;
mod watch;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use self::builder::ClientBuilder;
pub(crate) use self::handle::Handle;
pub(crate) use self::watch::{View, Watching};
use crate::clock::Moment;
use crate::contract::{
    Backend, BackendError, Capabilities, Failure, Finding, ListFilter, Page, ResourceName, Snapshot,
};
use crate::driver::Defaults;
use crate::error::ShutdownError;

/// A client of a store, from which locks are made. Clones share one connection and one scheduler.
///
/// By default the client works on a thread of its own. So locks stay alive while the caller's runtime is blocked, and
/// the caller needs no runtime. After the drop of the last handle the thread ends once everything is released. It ends
/// at the latest after 10 s or [`drop_timeout`](ClientBuilder::drop_timeout), whichever is longer.
///
/// # Dropping
///
/// Each clone, each lock and each guard is a handle of the client. Dropping a guard or the future of `lock` sends the
/// release in the background. Dropping the *last* handle also waits: it blocks its thread until the store has confirmed
/// the releases and the claims that are under way, for [`drop_timeout`](ClientBuilder::drop_timeout) at most, 1 s by
/// default. A program that returns from `main`, also by `?` or by a panic that unwinds, therefore leaves no lock to its
/// TTL while the store answers. Within this limit, the drop waits for the last lines of the log and the last metrics,
/// 100 ms at most. With nothing under way it returns at once.
///
/// - In an async task the wait blocks a worker of the caller's runtime. A task that must not block awaits
///   [`Guard::unlock`](crate::Guard::unlock) or [`shutdown`](Self::shutdown) before the drop.
/// - A client on the [caller's runtime](ClientBuilder::runtime) needs that runtime for its releases. The drop waits
///   only for a multi-thread runtime and outside its tasks: in `Runtime::block_on`, which runs the body of
///   `#[tokio::main]`, and on other threads. It never waits for a `current_thread` runtime, nor inside a task of the
///   client's runtime. Await [`Guard::unlock`](crate::Guard::unlock) or [`shutdown`](Self::shutdown) there. Otherwise
///   the end of the runtime leaves the locks to their TTL.
/// - In a callback of a watchdog and on the client's own thread the drop does not wait.
/// - `std::process::exit` and a panic with `panic = "abort"` drop nothing, and the end of `main` does not drop a client
///   in a `static`. Await [`shutdown`](Self::shutdown) before.
#[derive(Clone)]
pub struct Client(Arc<Handle>);

impl Client {
    /// A client of `backend` with the defaults of [`builder`](Self::builder).
    ///
    /// The backend is used on a thread of the client's own. For a backend whose connections belong to the runtime that
    /// opened them, use [`ClientBuilder::connect`].
    pub fn new(backend: impl Backend) -> Self {
        Self::builder().build(backend)
    }

    /// A builder with the default settings.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// The capabilities of the store.
    pub fn capabilities(&self) -> &Capabilities {
        self.0.driver.backend().capabilities()
    }

    /// Returns the holders of the resource called `name` and its waiters.
    ///
    /// # Errors
    ///
    /// The errors of the store; [`BackendError::Rejected`] if the name cannot be used ([`ResourceName`]).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn inspect(&self, name: impl AsRef<str>) -> Result<Snapshot, BackendError> {
        let resource = self.named("inspect", name)?;
        self.0.driver.call("inspect", async move |backend| backend.inspect(&resource).await).await
    }

    /// Lists the resources that are held or waited for, a page at a time.
    ///
    /// # Errors
    ///
    /// The errors of the store; [`BackendError::Rejected`] for a prefix that no name can begin with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn list(&self, filter: &ListFilter) -> Result<Page, BackendError> {
        if !filter.prefix.is_empty()
            && let Err(error) = ResourceName::new(&filter.prefix)
        {
            let reason = format!("no name begins with this prefix: {error}");
            return Err(BackendError::Rejected(Failure::new("list", self.capabilities().backend, reason)));
        }
        let filter = filter.clone();
        self.0.driver.call("list", async move |backend| backend.list(&filter).await).await
    }

    /// Ends all held leases of the resource called `name` by force, and its rests, and returns the number of these
    /// leases. Their holders are notified at once.
    ///
    /// # Errors
    ///
    /// As for [`inspect`](Self::inspect).
    ///
    /// # Cancel safety
    ///
    /// The request takes effect whether or not the future is dropped.
    #[doc(alias = "force_unlock")]
    pub async fn break_leases(&self, name: impl AsRef<str>) -> Result<u64, BackendError> {
        let resource = self.named("break", name)?;
        self.0.driver.call("break", async move |backend| backend.break_leases(&resource).await).await
    }

    /// Checks the version and the settings of the store for risks to locks.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        self.0.driver.call("examine", async move |backend| backend.examine().await).await
    }

    /// Releases everything that this client holds or waits for, and refuses new locks. For handlers of SIGTERM. A lock that
    /// the client is adopting stays in the store.
    ///
    /// Held locks are lost with [`LossReason::Shutdown`](crate::LossReason::Shutdown). `lock` futures end with
    /// [`LockError::Closed`](crate::LockError::Closed). Within `timeout`, this waits for the last lines of the log and
    /// the last metrics, 100 ms at most.
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] if the store has not confirmed everything within `timeout`.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled, the client releases its leases whether or not the future is dropped. Once the
    /// future has returned, the drop of the last handle does not wait again.
    pub async fn shutdown(&self, timeout: Duration) -> Result<(), ShutdownError> {
        self.0.driver.shutdown(timeout).await
    }

    /// Refuses new locks, waits for `wait` at most until the guards are dropped, and then releases the remaining
    /// leases, as [`shutdown`](Self::shutdown) does within `timeout`. `lock` futures end at once. Streams that watch a
    /// lock or observe an election go on until the drain has ended.
    ///
    /// # Errors
    ///
    /// As for [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the end of `wait` leaves the guards as they are, and new locks stay refused. After that
    /// it is as for [`shutdown`](Self::shutdown).
    pub async fn drain(&self, wait: Duration, timeout: Duration) -> Result<(), ShutdownError> {
        let _drain = self.0.drains().count();
        self.0.driver.drain(wait).await;
        self.shutdown(timeout).await
    }

    /// The number of leases that this client has on the store: queued, held, or being released.
    pub fn open_leases(&self) -> usize {
        self.0.driver.open_leases()
    }

    /// The resource called `name`, for an operation on it.
    fn named(&self, operation: &'static str, name: impl AsRef<str>) -> Result<ResourceName, BackendError> {
        ResourceName::new(name).map_err(|error| {
            BackendError::Rejected(Failure::new(operation, self.capabilities().backend, error.to_string()))
        })
    }

    /// Runs a task on the client's runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.driver.runtime().spawn(task);
    }

    pub(crate) fn has_own_thread(&self) -> bool {
        self.0.has_own_thread()
    }

    pub(crate) fn now(&self) -> Moment {
        self.0.driver.now()
    }

    pub(crate) fn defaults(&self) -> &Defaults {
        &self.0.driver.settings().defaults
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.0
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("backend", self.0.driver.backend())
            .field("open_leases", &self.open_leases())
            .field("scheduled", &self.0.driver.scheduled())
            .finish_non_exhaustive()
    }
}
