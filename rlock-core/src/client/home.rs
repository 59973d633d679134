//! The thread or runtime on which a client runs.

use std::future::Future;
use std::pin::Pin;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::error::StartError;

/// Runs a client on a thread of its own, or on the caller's runtime.
pub(super) enum Home {
    Own { runtime: Handle, tenant: oneshot::Sender<Task> },
    Caller(Handle),
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Home {
    /// A thread with a runtime. It ends with the future that [moves in](Self::move_in), or when this is dropped.
    pub(super) fn own_thread() -> Result<Self, StartError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StartError::new)?;
        let (tenant, waiting) = oneshot::channel::<Task>();
        let handle = runtime.handle().clone();
        let mut unstarted = Unstarted(Some(runtime));
        let run = move || {
            let runtime = unstarted.0.take().expect("it is taken once");
            if let Ok(tenant) = runtime.block_on(waiting) {
                runtime.block_on(tenant);
            }
        };
        std::thread::Builder::new().name("rlock".into()).spawn(run).map_err(StartError::new)?;
        Ok(Self::Own { runtime: handle, tenant })
    }

    pub(super) fn runtime(&self) -> &Handle {
        let (Self::Own { runtime, .. } | Self::Caller(runtime)) = self;
        runtime
    }

    pub(super) fn spawn(&self, task: Task) {
        self.runtime().spawn(task);
    }

    pub(super) fn is_own_thread(&self) -> bool {
        matches!(self, Self::Own { .. })
    }

    pub(super) fn move_in(self, tenant: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Own { tenant: waiting, .. } => {
                let _thread_gone = waiting.send(Box::pin(tenant));
            }
            Self::Caller(runtime) => drop(runtime.spawn(tenant)),
        }
    }
}

/// A runtime whose thread has not started. Dropping it does not block, because blocking inside another runtime is
/// forbidden.
struct Unstarted(Option<Runtime>);

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
