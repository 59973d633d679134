//! The store under test beside the reference.

use std::sync::Arc;
use std::time::Duration;

use proptest::test_runner::TestCaseError;
use rlock_core::{Backend, BackendError, Capabilities, Clock, MemoryBackend, MemoryStore, Namespace, Ttl};

use super::operation::{IDS, Lease};
use crate::Stage;
use crate::peer::ttl;

/// Two clients of the store, and two of the reference.
pub(super) struct Stores {
    pub(super) real: [Arc<dyn Backend>; 2],
    pub(super) memory: [MemoryBackend; 2],
    stage: Stage,
}

impl Stores {
    /// Connects the clients. The reference reads `clock`.
    pub(super) async fn connect(stage: &Stage, namespace: Namespace, clock: Clock) -> Self {
        let real = [stage.peer_in(&namespace).await, stage.peer_in(&namespace).await];
        let real = real.map(|peer| peer.backend().clone());
        let store = MemoryStore::with_clock(clock);
        let memory = [store.client(namespace.clone()), store.client(namespace)];
        Self { real, memory, stage: stage.clone() }
    }

    /// The capabilities of the store.
    pub(super) fn capabilities(&self) -> &Capabilities {
        self.stage.capabilities()
    }

    /// A duration of the operations, which assume milliseconds, stretched to the resolution of this store.
    pub(super) fn span(&self, millis: u64) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(40);
        let stretched = self.stage.kept(SHORTEST).as_secs_f64() / SHORTEST.as_secs_f64();
        Duration::from_millis(millis).mul_f64(stretched)
    }

    /// The TTL to claim or extend a lease by. A coarse store may round an extension up to the TTL of the claim, which
    /// the reference does not. Therefore each lease has one TTL there.
    pub(super) fn ttl(&self, lease: Lease, millis: u64) -> Ttl {
        const COARSE: [u64; IDS as usize] = [40, 80, 120, 10_000, 10_000, 100_000];
        let coarse = COARSE[usize::try_from(lease.1).unwrap_or(0) % COARSE.len()];
        ttl(self.stage.kept(self.span(if is_coarse(self.capabilities()) { coarse } else { millis })))
    }
}

/// Whether the store does not count in milliseconds.
pub(super) fn is_coarse(capabilities: &Capabilities) -> bool {
    capabilities.ttl_step > Duration::from_millis(1)
}

/// The answer, which must not be an error.
pub(super) fn well<T>(answer: Result<T, BackendError>) -> Result<T, TestCaseError> {
    answer.map_err(|error| TestCaseError::fail(error.to_string()))
}
