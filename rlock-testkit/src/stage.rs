//! The store and the clients of a case.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rlock_core::{Backend, Capabilities, Client, ClientBuilder, Namespace};
use tokio::time::timeout;

use crate::Harness;
use crate::faults::{Faults, Faulty};
use crate::peer::Peer;
use crate::wait::eventually;

/// A store and a namespace for one case. Makes clients of them.
#[derive(Clone)]
pub struct Stage {
    harness: Arc<dyn Harness>,
    namespace: Namespace,
    capabilities: Capabilities,
}

impl Stage {
    /// A new namespace in the store of `harness`.
    pub async fn new(harness: Arc<dyn Harness>) -> Self {
        let namespace = format!("rlock-test-{:016x}", rand::random::<u64>());
        Self::in_namespace(harness, Namespace::new(namespace).expect("it is short and plain")).await
    }

    pub(crate) async fn in_namespace(harness: Arc<dyn Harness>, namespace: Namespace) -> Self {
        let capabilities = harness.connect(&namespace).await.capabilities().clone();
        Self { harness, namespace, capabilities }
    }

    /// The namespace of the case.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The capabilities of the store.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// An independent client at the level of the contract.
    pub async fn peer(&self) -> Peer {
        self.peer_in(&self.namespace).await
    }

    /// An independent client at the level of the contract, in another namespace of the store.
    pub async fn peer_in(&self, namespace: &Namespace) -> Peer {
        Peer::new(self.harness.connect(namespace).await)
    }

    /// An independent client with the public API.
    pub async fn client(&self) -> Client {
        self.client_of(Client::builder()).await
    }

    /// An independent client with the settings of `builder`.
    pub async fn client_of(&self, builder: ClientBuilder) -> Client {
        self.client_through(builder, |backend| backend).await
    }

    /// An independent client whose backend is wrapped by `wrap`.
    pub async fn client_through<B: Backend>(
        &self,
        builder: ClientBuilder,
        wrap: impl FnOnce(Arc<dyn Backend>) -> B + Send + 'static,
    ) -> Client {
        let (harness, namespace) = (self.harness.clone(), self.namespace.clone());
        let Ok(client) =
            builder.connect(async move { Ok::<_, Infallible>(wrap(harness.connect(&namespace).await)) }).await;
        client
    }

    /// An independent client with `faults` in its requests.
    pub async fn faulty_client(&self, faults: &Faults) -> Client {
        let faults = faults.clone();
        self.client_through(Client::builder(), |backend| Faulty::new(backend, faults)).await
    }

    /// `ttl` as this store keeps it: rounded up.
    pub fn kept(&self, ttl: Duration) -> Duration {
        let step = self.capabilities.ttl_step.max(Duration::from_nanos(1));
        let steps = ttl.max(self.capabilities.min_ttl.get()).as_nanos().div_ceil(step.as_nanos());
        step * u32::try_from(steps).expect("the TTLs of tests are short, or multiples of the step")
    }

    /// A TTL that is short enough to let it expire: 300 ms, or the shortest that the store supports.
    pub fn short(&self) -> Duration {
        self.kept(Duration::from_millis(300))
    }

    /// A TTL that can be renewed in time on a busy machine: 1 s, or the shortest that the store supports.
    pub fn brisk(&self) -> Duration {
        self.kept(Duration::from_secs(1))
    }

    /// A TTL whose margin leaves time for a busy machine.
    pub(crate) fn patient(&self) -> Duration {
        self.brisk() * 3
    }

    /// Waits until `count` clients wait for `name`. Returns at once if the store has no queue, as it cannot know then.
    pub async fn sees_waiting(&self, count: usize, name: &str) {
        if self.capabilities.queue {
            self.peer().await.sees_queued(count, name).await;
        }
    }

    /// Waits until the store keeps nothing of this namespace except what keeps tokens increasing.
    ///
    /// # Panics
    ///
    /// Panics with the remaining data after `limit`.
    pub async fn keeps_nothing(&self, limit: Duration) {
        let mut left = Vec::new();
        let is_empty = async || {
            left = self.harness.leftovers(&self.namespace).await;
            left.is_empty()
        };
        if timeout(limit, eventually(Duration::MAX, "an empty store", is_empty)).await.is_err() {
            panic!("the store still keeps {} things: {left:?}", left.len());
        }
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
