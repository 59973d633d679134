//! Runs the conformance suite on rlock-etcd.

use std::sync::Arc;

use rlock_core::{Backend, Namespace};
use rlock_etcd::{EtcdBackend, EtcdConfig};
use rlock_testkit::faults::Control;
use rlock_testkit::servers::Etcd;
use rlock_testkit::{Controlled, Harness, Shared, async_trait};

rlock_testkit::conformance!(etcd: EtcdHarness);

struct EtcdHarness {
    url: String,
    server: Option<Etcd>,
}

impl EtcdHarness {
    fn of(server: Etcd, options: &str) -> Self {
        Self { url: format!("{}{options}", server.url()), server: Some(server) }
    }

    fn store(&self) -> &Etcd {
        self.server.as_ref().expect("only the test that started the server looks at it")
    }
}

#[async_trait]
impl Harness for EtcdHarness {
    async fn start() -> Self {
        Self::of(Etcd::start(), "?restart_grace=0s") // these servers never lose their data
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        let config = EtcdConfig::from_url(&self.url).expect("a URL of etcd").namespace(namespace.clone());
        Arc::new(EtcdBackend::connect(config).await.expect("etcd can be reached"))
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        let epoch = format!("{namespace}/");
        let mut keys = self.store().keys(&epoch);
        keys.retain(|key| *key != epoch);
        keys
    }
}

#[async_trait]
impl Shared for EtcdHarness {
    fn address(&self) -> String {
        self.url.clone()
    }

    async fn attach(address: &str) -> Self {
        Self { url: address.to_owned(), server: None }
    }
}

#[async_trait]
impl Controlled for EtcdHarness {
    async fn start_durable() -> Self {
        Self::of(Etcd::start_durable(), "")
    }

    fn server(&self) -> &dyn Control {
        self.server.as_ref().expect("only the test that started the server tampers with it")
    }
}
