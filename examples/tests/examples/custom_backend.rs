//! The custom store keeps the contract: it passes the cases of the suite that apply to a store without queue or push.

use std::sync::Arc;

use rlock::Namespace;
use rlock::backend::Backend;
use rlock_examples::{KeyValue, KeyValueBackend};
use rlock_testkit::{Harness, async_trait};

struct KeyValueHarness {
    store: Arc<KeyValue>,
}

#[async_trait]
impl Harness for KeyValueHarness {
    async fn start() -> Self {
        Self { store: Arc::default() }
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        Arc::new(KeyValueBackend::new(Arc::clone(&self.store), namespace))
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        self.store.keys(&KeyValueBackend::prefix(namespace), None, usize::MAX).await
    }
}

rlock_testkit::conformance!(key_value: KeyValueHarness, without(queue, push, processes, network, control, rest, data));
