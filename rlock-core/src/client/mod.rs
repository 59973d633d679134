//! The client of a store.

mod handle;
mod home;
mod watch;

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

pub(crate) use self::handle::Handle;
use self::home::Home;
pub(crate) use self::watch::{View, Watching};
use crate::clock::{Clock, Moment};
use crate::contract::{
    Backend, BackendError, Capabilities, Failure, Finding, InvalidTtl, ListFilter, Owner, Page, ResourceName, Snapshot,
    Ttl,
};
use crate::driver::{Driver, Settings};
use crate::error::{ShutdownError, StartError};

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
/// TTL while the store answers. With nothing under way the drop returns at once.
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
        ClientBuilder {
            runtime: None,
            clock: Clock::boot(),
            owner: Owner::current(),
            default_ttl: Ttl::DEFAULT,
            retry_for: ClientBuilder::RETRY_FOR,
            drop_timeout: ClientBuilder::DROP_TIMEOUT,
        }
    }

    /// The capabilities of the store.
    pub fn capabilities(&self) -> &Capabilities {
        self.0.driver.backend().capabilities()
    }

    /// Returns the holders of `resource` and its waiters.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn inspect(&self, resource: &ResourceName) -> Result<Snapshot, BackendError> {
        let resource = resource.clone();
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

    /// Ends all held leases of `resource` by force, and its rests, and returns the number of these leases. Their
    /// holders are notified at once.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    ///
    /// # Cancel safety
    ///
    /// The request takes effect whether or not the future is dropped.
    pub async fn break_leases(&self, resource: &ResourceName) -> Result<u64, BackendError> {
        let resource = resource.clone();
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

    /// Releases everything that this client holds or waits for, and refuses new locks. For handlers of SIGTERM.
    ///
    /// Held locks are lost with [`LossReason::Shutdown`](crate::LossReason::Shutdown). `lock` futures end with
    /// [`LockError::Closed`](crate::LockError::Closed).
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
    /// leases, as [`shutdown`](Self::shutdown) does within `timeout`. `lock` futures end at once.
    ///
    /// # Errors
    ///
    /// As for [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the guards as they are. New locks stay refused.
    pub async fn drain(&self, wait: Duration, timeout: Duration) -> Result<(), ShutdownError> {
        self.0.driver.drain(wait).await;
        self.shutdown(timeout).await
    }

    /// The number of leases that this client has on the store: queued, held, or being released.
    pub fn open_leases(&self) -> usize {
        self.0.driver.open_leases()
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

    pub(crate) fn default_ttl(&self) -> Ttl {
        self.0.driver.settings().default_ttl
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

/// A builder of a [`Client`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder {
    runtime: Option<tokio::runtime::Handle>,
    clock: Clock,
    owner: Owner,
    default_ttl: Ttl,
    retry_for: Duration,
    drop_timeout: Duration,
}

impl ClientBuilder {
    /// The default of [`retry_for`](Self::retry_for): 5 s.
    pub const RETRY_FOR: Duration = Duration::from_secs(5);

    /// The default of [`drop_timeout`](Self::drop_timeout): 1 s.
    pub const DROP_TIMEOUT: Duration = Duration::from_secs(1);

    /// Runs the client on `runtime`, with I/O and time enabled, instead of a thread of its own. This has the lowest
    /// latency, but the client loses its locks if the threads of the runtime are blocked for longer than the TTL.
    pub fn runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Measures deadlines on `clock`; for tests.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets a label that others see beside host and process when they inspect a lock. Control characters are removed
    /// from the label, and it is cut to 255 bytes.
    pub fn label(mut self, label: &str) -> Self {
        self.owner = self.owner.with_label(label);
        self
    }

    /// Sets the TTL of locks whose options set none. The default is 30 s.
    ///
    /// # Errors
    ///
    /// [`InvalidTtl`] outside [`Ttl::MIN`] to [`Ttl::MAX`].
    pub fn default_ttl(mut self, ttl: Duration) -> Result<Self, InvalidTtl> {
        self.default_ttl = Ttl::new(ttl)?;
        Ok(self)
    }

    /// Sets the time for which the client retries requests to a store that fails or does not answer, before `lock` and
    /// `unlock` report the error. The default is 5 s. It limits neither the wait for a lock that others hold, nor the
    /// extensions of a held lock.
    pub fn retry_for(mut self, patience: Duration) -> Self {
        self.retry_for = patience;
        self
    }

    /// Sets the longest time that the last drop waits for releases. The default is 1 s.
    ///
    /// With zero the drop does not wait, and a process that ends right after may leave its locks to their TTL. A client
    /// without handles continues its releases for this time or 10 s, whichever is longer, and then ends.
    /// [`Client`](Client#dropping) defines a handle, and lists where the drop does not wait.
    pub fn drop_timeout(mut self, timeout: Duration) -> Self {
        self.drop_timeout = timeout;
        self
    }

    /// Builds a client of `backend`.
    ///
    /// # Panics
    ///
    /// Panics if the operating system refuses to start a thread; [`try_build`](Self::try_build) returns that as an
    /// error.
    pub fn build(self, backend: impl Backend) -> Client {
        self.try_build(backend).expect("the system has a thread and a file descriptor left")
    }

    /// Builds a client of `backend`.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the operating system refuses to start a thread.
    pub fn try_build(self, backend: impl Backend) -> Result<Client, StartError> {
        let home = self.home()?;
        Ok(self.client(home, Arc::new(backend)))
    }

    /// Builds a client of the backend that `connect` makes. `connect` runs where the client will run, so that its
    /// connections are served there.
    ///
    /// # Errors
    ///
    /// The error of `connect`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets `connect` run to its end, but no client is made.
    ///
    /// # Panics
    ///
    /// Panics if the operating system refuses to start a thread, for which [`try_connect`](Self::try_connect) returns
    /// an error. Panics if `connect` panics, or if its runtime ends meanwhile.
    pub async fn connect<B, E, F>(self, connect: F) -> Result<Client, E>
    where
        B: Backend,
        E: Send + 'static,
        F: Future<Output = Result<B, E>> + Send + 'static,
    {
        self.try_connect_with(connect).await.expect("the system has a thread left, and `connect` does not panic")
    }

    /// Builds a client of the backend that `connect` makes, like [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// [`StartError`] if the operating system refuses to start a thread, if `connect` panics, or if its runtime ends
    /// meanwhile. The error of `connect` otherwise.
    ///
    /// # Cancel safety
    ///
    /// As for [`connect`](Self::connect).
    pub async fn try_connect<B, E, F>(self, connect: F) -> Result<Client, E>
    where
        B: Backend,
        E: From<StartError> + Send + 'static,
        F: Future<Output = Result<B, E>> + Send + 'static,
    {
        self.try_connect_with(connect).await?
    }

    async fn try_connect_with<B, E, F>(self, connect: F) -> Result<Result<Client, E>, StartError>
    where
        B: Backend,
        E: Send + 'static,
        F: Future<Output = Result<B, E>> + Send + 'static,
    {
        let home = self.home()?;
        let (sender, connected) = oneshot::channel();
        // Boxed, because the code that spawns a task is compiled again for each type of future.
        home.spawn(Box::pin(async move {
            let backend = connect.await.map(|backend| Arc::new(backend) as Arc<dyn Backend>);
            let _caller_gone = sender.send(backend);
        }));
        let ended = || StartError::new(io::Error::other("the runtime has ended, or `connect` panicked"));
        let backend = connected.await.map_err(|_| ended())?;
        Ok(backend.map(|backend| self.client(home, backend)))
    }

    fn home(&self) -> Result<Home, StartError> {
        self.runtime.clone().map_or_else(Home::own_thread, |runtime| Ok(Home::Caller(runtime)))
    }

    fn client(self, home: Home, backend: Arc<dyn Backend>) -> Client {
        let settings = Settings {
            clock: self.clock,
            owner: self.owner,
            default_ttl: self.default_ttl,
            retry_for: self.retry_for,
            drop_timeout: self.drop_timeout,
        };
        let (driver, events) = Driver::new(backend, home.runtime().clone(), settings);
        let has_own_thread = home.is_own_thread();
        home.move_in(driver.clone().drive(events));
        Client(Arc::new(Handle::new(driver, has_own_thread)))
    }
}
