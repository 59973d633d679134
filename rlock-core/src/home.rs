//! Where a client runs.

use std::future::Future;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use std::pin::Pin;

/// Where a client runs: on a thread of its own, or on the caller's runtime.
pub(crate) enum Home {
    Own { runtime: Handle, tenant: oneshot::Sender<Task> },
    Caller(Handle),
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Home {
    /// A thread with a runtime, which ends with the future that [moves in](Self::move_in), or when this is dropped.
    pub(crate) fn own_thread() -> Self {
        let runtime =
            Builder::new_current_thread().enable_all().build().expect("the system has a file descriptor left");
        let (tenant, waiting) = oneshot::channel::<Task>();
        let handle = runtime.handle().clone();
        let run = move || {
            if let Ok(tenant) = runtime.block_on(waiting) {
                runtime.block_on(tenant);
            }
        };
        std::thread::Builder::new().name("rlock".into()).spawn(run).expect("the system has a thread left");
        Self::Own { runtime: handle, tenant }
    }

    pub(crate) fn runtime(&self) -> &Handle {
        let (Self::Own { runtime, .. } | Self::Caller(runtime)) = self;
        runtime
    }

    pub(crate) fn spawn(&self, task: Task) {
        self.runtime().spawn(task);
    }

    pub(crate) fn is_own_thread(&self) -> bool {
        matches!(self, Self::Own { .. })
    }

    pub(crate) fn move_in(self, tenant: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Own { tenant: waiting, .. } => {
                let _thread_gone = waiting.send(Box::pin(tenant));
            }
            Self::Caller(runtime) => drop(runtime.spawn(tenant)),
        }
    }
}
