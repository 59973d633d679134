//! The store that all libraries use.

use std::sync::Arc;
use std::time::Duration;

use rlock::Namespace;
use rlock::backend::{Baseline, LeaseId, baseline};
use rlock::postgres::{PostgresBackend, PostgresConfig};
use tempfile::TempDir;

use crate::args::Args;

/// The store that all libraries use, with the settings for it.
pub struct Target {
    pub url: String,
    /// The prefix of all names.
    pub namespace: Namespace,
    /// The operations of the store without locks.
    pub baseline: Arc<dyn Baseline>,
    /// The number of connections of a library that keeps one for each lock.
    pub pool: u32,
    /// The average pause of a library that polls.
    pub poll: Duration,
    /// The folder for locks that are files. It is removed at the end.
    pub folder: TempDir,
}

impl Target {
    pub async fn connect(args: &Args) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let url = match args.url.as_str() {
            "sqlite:" => format!("sqlite:{}", folder.path().join("rlock.db").display()),
            url => url.to_owned(),
        };
        if url.starts_with("postgres") {
            PostgresBackend::ensure_schema(&PostgresConfig::from_url(&without_grace(&url))?).await?;
        }
        let namespace = Namespace::new(format!("rlock-peers-{}", &LeaseId::random().to_hex()[..8]))?;
        let baseline = baseline(&without_grace(&url), &namespace).await?;
        Ok(Self { url, namespace, baseline, pool: args.pool, poll: Duration::from_millis(args.poll), folder })
    }

    pub fn scheme(&self) -> &str {
        self.url.split(':').next().unwrap_or_default()
    }

    /// The URL without its options, which are for rlock.
    pub fn address(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }

    pub fn rlock_url(&self) -> String {
        without_grace(&self.url)
    }
}

/// The URL for rlock, without a grace after restarts, because a new namespace has no earlier holders.
fn without_grace(url: &str) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    if url.starts_with("sqlite:") { url.to_owned() } else { format!("{url}{joint}restart_grace=0s") }
}
