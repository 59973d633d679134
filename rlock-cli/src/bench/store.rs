//! The measured store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use rlock::backend::{Backend, Baseline, LeaseId, baseline, open};
use rlock::{Client, ConnectError, Failure, Namespace};
use rlock_testkit::bench::{BenchError, Counted, Home, Requests, Subject};
use tokio::runtime::Handle;

use crate::throw_away::without_grace;

/// The limit for the release of all locks of a client.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// A store, in a namespace that is removed at the end.
pub(super) struct Store {
    url: String,
    namespace: Namespace,
    baseline: Arc<dyn Baseline>,
    requests: Requests,
    clients: Mutex<Vec<Client>>,
}

impl Store {
    /// Connects to the store, for its locks and for its bare counterparts.
    pub(super) async fn connect(url: &str) -> Result<Self, ConnectError> {
        let namespace = format!("rlock-bench-{}", &LeaseId::random().to_hex()[..8]);
        let namespace = Namespace::new(namespace).expect("it is short and plain");
        let url = without_grace(url);
        // The locks connect first, because their errors name missing settings.
        drop(open(&url, Some(&namespace)).await?);
        let baseline = baseline(&url, &namespace).await?;
        Ok(Self { url, namespace, baseline, requests: Requests::default(), clients: Mutex::default() })
    }

    /// The namespace of the measured keys.
    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Closes the clients and removes the namespace.
    pub(super) async fn clean_up(&self) -> Result<(), BenchError> {
        let closed = self.close().await;
        self.baseline.clean_up().await?;
        closed
    }
}

impl Subject for Store {
    type Locks = Client;

    fn homes(&self) -> &[Home] {
        &[Home::Caller, Home::Own]
    }

    fn baseline(&self) -> Arc<dyn Baseline> {
        self.baseline.clone()
    }

    async fn backend(&self) -> Result<Option<Arc<dyn Backend>>, BenchError> {
        Ok(Some(open(&self.url, Some(&self.namespace)).await.map_err(|error| failed(&error))?))
    }

    async fn connect(&self, home: Home, ttl: Option<Duration>) -> Result<Client, BenchError> {
        let (url, namespace, requests) = (self.url.clone(), self.namespace.clone(), self.requests.clone());
        let mut builder = Client::builder().label("rlock bench").drop_timeout(Duration::ZERO); // closed below
        if home == Home::Caller {
            builder = builder.runtime(Handle::current());
        }
        if let Some(ttl) = ttl {
            builder = builder.default_ttl(ttl).expect("the command line takes only TTLs");
        }
        let connect = async move { Ok::<_, ConnectError>(Counted::new(open(&url, Some(&namespace)).await?, requests)) };
        let client = builder.connect(connect).await.map_err(|error| failed(&error))?;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(client.clone());
        Ok(client)
    }

    fn requests(&self) -> Option<Requests> {
        Some(self.requests.clone())
    }

    async fn close(&self) -> Result<(), BenchError> {
        let clients = std::mem::take(&mut *self.clients.lock().unwrap_or_else(PoisonError::into_inner));
        let closed = join_all(clients.iter().map(|client| client.shutdown(CLOSED_WITHIN))).await;
        let first = closed.into_iter().collect::<Result<(), _>>();
        Ok(first.map_err(|error| Failure::new("release", "the store", error.to_string()))?)
    }
}

fn failed(error: &ConnectError) -> BenchError {
    BenchError::Failed(match error {
        ConnectError::Unreachable(failure) | ConnectError::Rejected(failure) => failure.clone(),
        other => Failure::new("connect", "the store", other.to_string()),
    })
}
