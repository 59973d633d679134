//! rlock as one of the libraries.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rlock::backend::{Backend, Baseline, open};
use rlock::{Client, Failure};
use rlock_testkit::bench::{BenchError, Home, Requests, Subject};
use tokio::runtime::Handle;

use crate::measured::{Measured, Named};
use crate::target::Target;

/// Time limit for the release of all locks.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// rlock with its clients in `home`.
pub fn measured(home: Home, target: &Arc<Target>) -> Box<dyn Measured> {
    let name = if home == Home::Caller { "rlock, caller's runtime" } else { "rlock, own thread" };
    let subject = Rlock { home: [home], target: target.clone(), clients: Mutex::default() };
    Box::new(Named { name, note: "", subject })
}

struct Rlock {
    home: [Home; 1],
    target: Arc<Target>,
    clients: Mutex<Vec<Client>>,
}

impl Subject for Rlock {
    type Locks = Client;

    fn homes(&self) -> &[Home] {
        &self.home
    }

    fn baseline(&self) -> Arc<dyn Baseline> {
        self.target.baseline.clone()
    }

    async fn backend(&self) -> Result<Option<Arc<dyn Backend>>, BenchError> {
        Ok(None) // the other libraries have no such requests
    }

    async fn connect(&self, home: Home, _ttl: Option<Duration>) -> Result<Client, BenchError> {
        let mut builder = Client::builder().label("rlock-peers");
        if home == Home::Caller {
            builder = builder.runtime(Handle::current());
        }
        let (url, namespace) = (self.target.rlock_url(), self.target.namespace.clone());
        let connected = builder.connect(async move { open(&url, Some(&namespace)).await }).await;
        let client = connected.map_err(|error| failed("connect", error.to_string()))?;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(client.clone());
        Ok(client)
    }

    fn requests(&self) -> Option<Requests> {
        None
    }

    async fn close(&self) -> Result<(), BenchError> {
        let clients = std::mem::take(&mut *self.clients.lock().unwrap_or_else(PoisonError::into_inner));
        for client in clients {
            client.shutdown(CLOSED_WITHIN).await.map_err(|error| failed("release", error.to_string()))?;
        }
        Ok(())
    }
}

fn failed(operation: &'static str, reason: String) -> BenchError {
    Failure::new(operation, "rlock", reason).into()
}
