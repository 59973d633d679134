//! The interface to other lock libraries, which are measured in the same way as rlock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rlock::Failure;
use rlock::backend::{Backend, Baseline};
use rlock_testkit::bench::{BenchError, Home, Locks, Requests, Subject};
use tokio::time::sleep;

use crate::measured::{Measured, Named};
use crate::target::Target;

/// The longest time until a waiting request is in the queue of the store.
const QUEUED_WITHIN: Duration = Duration::from_millis(20);

/// A client of a lock library. Clones share it.
pub trait Library: Clone + Send + Sync + 'static {
    /// The name of the crate, or of the call that is measured.
    const NAME: &'static str;
    /// How the library is used here, with notes for readers of its figures.
    const NOTE: &'static str;
    /// A lock that is held.
    type Held: Send + 'static;

    fn connect(target: &Target) -> impl Future<Output = anyhow::Result<Self>> + Send;
    /// Waits for the lock without a time limit.
    fn acquire(&self, name: &str) -> impl Future<Output = anyhow::Result<Self::Held>> + Send;
    /// Releases the lock, and returns once the store has confirmed it.
    fn release(&self, held: Self::Held) -> impl Future<Output = anyhow::Result<()>> + Send;
    fn close(self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// The library on the store of `target`.
pub fn measured<L: Library>(target: &Arc<Target>) -> Box<dyn Measured> {
    let subject = Peer::<L> { target: target.clone(), waiting: Arc::default(), clients: Mutex::default() };
    Box::new(Named { name: L::NAME, note: L::NOTE, subject })
}

struct Peer<L> {
    target: Arc<Target>,
    waiting: Arc<AtomicUsize>,
    clients: Mutex<Vec<L>>,
}

impl<L: Library> Subject for Peer<L> {
    type Locks = Client<L>;

    fn homes(&self) -> &[Home] {
        &[Home::Caller]
    }

    fn baseline(&self) -> Arc<dyn Baseline> {
        self.target.baseline.clone()
    }

    async fn backend(&self) -> Result<Option<Arc<dyn Backend>>, BenchError> {
        Ok(None)
    }

    async fn connect(&self, _home: Home, _ttl: Option<Duration>) -> Result<Client<L>, BenchError> {
        let library = L::connect(&self.target).await.map_err(failed::<L>("connect"))?;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(library.clone());
        Ok(Client { library, target: self.target.clone(), waiting: self.waiting.clone() })
    }

    fn requests(&self) -> Option<Requests> {
        None
    }

    async fn close(&self) -> Result<(), BenchError> {
        let clients = std::mem::take(&mut *self.clients.lock().unwrap_or_else(PoisonError::into_inner));
        for client in clients {
            client.close().await.map_err(failed::<L>("close"))?;
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Client<L> {
    library: L,
    target: Arc<Target>,
    waiting: Arc<AtomicUsize>,
}

impl<L: Library> Locks for Client<L> {
    type Held = L::Held;

    async fn acquire(&self, name: &str) -> Result<L::Held, BenchError> {
        let _waits = Waits::new(&self.waiting);
        let name = format!("{}/{name}", self.target.namespace);
        self.library.acquire(&name).await.map_err(failed::<L>("lock"))
    }

    async fn release(&self, held: L::Held) -> Result<(), BenchError> {
        self.library.release(held).await.map_err(failed::<L>("unlock"))
    }

    /// An estimate. Sleeps until a call has reached the queue of the store, which most stores do not show, and until a
    /// library that polls is at a random point between two attempts.
    async fn waiting(&self, _name: &str) -> Result<usize, BenchError> {
        sleep(QUEUED_WITHIN + self.target.poll.mul_f64(rand::random_range(0.0..2.0))).await;
        Ok(self.waiting.load(Ordering::Relaxed))
    }
}

/// A call that waits for its lock.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn failed<L: Library>(operation: &'static str) -> impl Fn(anyhow::Error) -> BenchError {
    move |error| Failure::new(operation, L::NAME, format!("{error:#}")).into()
}
