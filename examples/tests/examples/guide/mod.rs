//! The blocks of code in docs/watchdog.md and docs/watchdog.zh.md, unchanged, on every store.

mod stand_ins;

/// The blocks of the English page.
mod en {
    #![allow(unused_variables, reason = "not every block needs a client, or the URL")]
    #![allow(unused_qualifications, reason = "rlock::connect is what a reader understands")]

    use super::stand_ins::*;

    include!(concat!(env!("OUT_DIR"), "/guide_en.rs"));
}

/// The blocks of the Chinese page.
mod zh {
    #![allow(unused_variables, reason = "not every block needs a client, or the URL")]
    #![allow(unused_qualifications, reason = "rlock::connect is what a reader understands")]

    use super::stand_ins::*;

    include!(concat!(env!("OUT_DIR"), "/guide_zh.rs"));
}

#[test]
fn both_pages_have_the_same_blocks() {
    assert_eq!(en::NAMES, zh::NAMES);
    assert!(en::NAMES.len() >= 15, "{:?}", en::NAMES);
}

#[tokio::test]
async fn on_sqlite() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    run(&format!("sqlite:{}", folder.path().join("locks.db").display())).await
}

#[tokio::test]
async fn on_redis() -> anyhow::Result<()> {
    let server = rlock_testkit::servers::Redis::start();
    run(&format!("{}?restart_grace=0s&timeout=5s", server.url())).await
}

#[cfg(feature = "etcd")]
#[tokio::test]
async fn on_etcd() -> anyhow::Result<()> {
    let server = rlock_testkit::servers::Etcd::start();
    run(&format!("{}?restart_grace=0s&timeout=5s", server.url())).await
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn on_postgres() -> anyhow::Result<()> {
    use rlock::postgres::{PostgresBackend, PostgresConfig};

    let server = rlock_testkit::servers::Postgres::start();
    let url = format!("{}?restart_grace=0s&timeout=5s", server.url());
    PostgresBackend::ensure_schema(&PostgresConfig::from_url(&url)?).await?;
    run(&url).await
}

async fn run(url: &str) -> anyhow::Result<()> {
    en::run_all(url).await?;
    zh::run_all(url).await
}
