//! Proxies between the clients of a case and the store.

use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rlock_core::Namespace;

use crate::faults::Proxy;
use crate::{Harness, Shared, Stage};

type Attach = Box<dyn Fn(String) -> BoxFuture<'static, Arc<dyn Harness>> + Send + Sync>;

/// Starts proxies in front of the store of a case.
pub struct Network {
    address: String,
    namespace: Namespace,
    attach: Attach,
    proxied: fn(&str) -> (String, Proxy),
}

impl Network {
    pub(crate) fn new<H: Shared>(address: String, namespace: Namespace) -> Self {
        let attach = |address: String| async move { Arc::new(H::attach(&address).await) as Arc<dyn Harness> }.boxed();
        Self { address, namespace, attach: Box::new(attach), proxied: H::proxied }
    }

    /// Starts a proxy in front of the store. Returns it with a stage whose clients go through it.
    pub async fn proxied(&self) -> (Stage, Proxy) {
        let (address, proxy) = (self.proxied)(&self.address);
        let harness = (self.attach)(address).await;
        (Stage::in_namespace(harness, self.namespace.clone()).await, proxy)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("address", &self.address).finish_non_exhaustive()
    }
}
