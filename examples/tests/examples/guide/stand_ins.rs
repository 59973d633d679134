//! Stand-ins for the work that the blocks of the guide leave to the reader.

pub(crate) use std::time::Duration;

pub(crate) use futures_util::StreamExt as _;
pub(crate) use rlock::*;

const A_WHILE: Duration = Duration::from_millis(50);

pub(crate) async fn long_running_task() {
    tokio::time::sleep(A_WHILE).await;
}

pub(crate) async fn fallible_task() -> anyhow::Result<()> {
    long_running_task().await;
    Ok(())
}

pub(crate) fn batches() -> impl Iterator<Item = u32> {
    0..3
}

pub(crate) async fn process(batch: u32) -> u32 {
    tokio::time::sleep(A_WHILE / 5).await;
    batch
}

pub(crate) async fn commit(_result: u32, _token: Token) {}

pub(crate) fn alert(_text: &str) {}

pub(crate) struct Server;

pub(crate) fn start_server() -> Server {
    Server
}

impl Server {
    pub(crate) async fn shutdown(self) {}
}

pub(crate) async fn shutdown_signal() {
    tokio::time::sleep(A_WHILE).await;
}

pub(crate) async fn main_service() {
    std::future::pending().await
}

pub(crate) async fn clean_up() {}
