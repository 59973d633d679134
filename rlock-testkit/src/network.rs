//! The way to the store, for cases that spoil it.

use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rlock_core::Namespace;

use crate::faults::Proxy;
use crate::{Harness, Shared, Stage};

type Attach = Box<dyn Fn(String) -> BoxFuture<'static, Arc<dyn Harness>> + Send + Sync>;

/// Makes ways to the store that can be spoilt.
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

    /// A proxy in front of the store, and the case's stage as the clients behind it see it.
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
