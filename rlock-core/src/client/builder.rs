//! The settings of a client.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::home::Home;
use super::{Client, Handle};
use crate::clock::Clock;
use crate::contract::{Backend, InvalidTtl, Owner, Ttl};
use crate::driver::{Defaults, Driver, Settings};
use crate::error::StartError;
use crate::watchdog::WatchdogConfig;

/// A builder of a [`Client`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder {
    runtime: Option<tokio::runtime::Handle>,
    clock: Clock,
    owner: Owner,
    defaults: Defaults,
    retry_for: Duration,
    drop_timeout: Duration,
}

impl ClientBuilder {
    /// The default of [`retry_for`](Self::retry_for): 5 s.
    pub const RETRY_FOR: Duration = Duration::from_secs(5);

    /// The default of [`drop_timeout`](Self::drop_timeout): 1 s.
    pub const DROP_TIMEOUT: Duration = Duration::from_secs(1);

    pub(super) fn new() -> Self {
        Self {
            runtime: None,
            clock: Clock::boot(),
            owner: Owner::current(),
            defaults: Defaults::default(),
            retry_for: Self::RETRY_FOR,
            drop_timeout: Self::DROP_TIMEOUT,
        }
    }

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

    /// Sets a label that others see beside host and process when they inspect a lock, unless the
    /// [options](crate::LockOptions::label) of the lock set another. Control characters are removed from the label, and
    /// it is cut to 255 bytes.
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
        self.defaults.ttl = Ttl::new(ttl)?;
        Ok(self)
    }

    /// Sets the maximum time to wait for locks whose options set no [`wait`](crate::LockOptions::wait). Zero is one try.
    /// The default is no limit, and so is [`Duration::MAX`]. It also limits the wait for a [`LockSet`](crate::LockSet)
    /// and for the leadership of an [`Election`](crate::Election). A try does not wait in any case.
    pub fn default_wait(mut self, timeout: Duration) -> Self {
        self.defaults.wait = Some(timeout);
        self
    }

    /// Sets whether locks have a watchdog. The default is true. The options of a lock replace it by
    /// [`watchdog`](crate::LockOptions::watchdog), and switch the watchdog on by
    /// [`watchdog_interval`](crate::LockOptions::watchdog_interval) and
    /// [`watchdog_config`](crate::LockOptions::watchdog_config). A lock that a client [adopts](Client::adopt) has a watchdog
    /// in any case.
    pub fn default_watchdog(mut self, on: bool) -> Self {
        self.defaults.watchdog = on;
        self
    }

    /// Sets the configuration of the watchdogs of locks, with its callbacks and the number of failures that it
    /// tolerates. Without this a watchdog extends every third of the TTL and continues until the deadline, however
    /// often it fails.
    ///
    /// A [`watchdog_config`](crate::LockOptions::watchdog_config) in the options of a lock replaces the whole
    /// configuration, and a [`watchdog_interval`](crate::LockOptions::watchdog_interval) the interval in it. A lock
    /// with a TTL for which the configuration cannot work is refused with
    /// [`InvalidConfig`](crate::InvalidConfig). A lock that a client [adopts](Client::adopt) has the watchdog of a
    /// client without this.
    pub fn default_watchdog_config(mut self, config: WatchdogConfig) -> Self {
        self.defaults.watchdog_config = Some(config);
        self
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

    /// Builds a client of the backend that `connect` makes, for code that chooses the backend itself. For a URL, use
    /// `rlock::connect_with(url, builder)` instead. `connect` runs where the client will run, so that its connections
    /// are served there.
    ///
    /// # Errors
    ///
    /// The error of `connect`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future makes no client. `connect` then runs to its end on the caller's runtime, and is dropped on a
    /// thread of its own.
    ///
    /// # Panics
    ///
    /// Panics if the operating system refuses to start a thread, for which [`try_connect`](Self::try_connect) returns
    /// an error. Panics if `connect` panics, or if its runtime ends meanwhile.
    #[doc(alias = "connect_with")]
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
            defaults: self.defaults,
            retry_for: self.retry_for,
            drop_timeout: self.drop_timeout,
        };
        let (driver, events) = Driver::new(backend, home.runtime().clone(), settings);
        let has_own_thread = home.is_own_thread();
        home.move_in(driver.clone().drive(events));
        Client(Arc::new(Handle::new(driver, has_own_thread)))
    }
}
