//! What can happen to a server.

use async_trait::async_trait;

/// A server that can be tampered with. Each call answers when it is done, and panics if it cannot be done.
#[async_trait]
pub trait Control: Send + Sync {
    /// Stops it as SIGSTOP does: connections stay open, and nothing is answered.
    async fn pause(&self);

    /// Lets it go on after a [`pause`](Self::pause).
    async fn resume(&self);

    /// Ends it as SIGKILL does, paused or not.
    async fn kill(&self);

    /// Starts it again at the same address, and answers when it is ready. One that still runs is killed first.
    async fn restart(&self, data: Data);
}

/// What a restarted server finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Everything that it had confirmed.
    Kept,
    /// Nothing.
    Lost,
}
