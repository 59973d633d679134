//! Faults of a server.

use async_trait::async_trait;

/// A server into which faults can be injected. Each call returns when the fault is in place, and panics if that fails.
#[async_trait]
pub trait Control: Send + Sync {
    /// Stops the server with SIGSTOP: connections stay open, and no request is answered.
    async fn pause(&self);

    /// Lets the server continue after a [`pause`](Self::pause).
    async fn resume(&self);

    /// Ends the server with SIGKILL, paused or not.
    async fn kill(&self);

    /// Starts the server again at the same address, and returns when it is ready. A running server is killed first.
    async fn restart(&self, data: Data);
}

/// The data that a restarted server finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// All confirmed writes.
    Kept,
    /// No data.
    Lost,
}
