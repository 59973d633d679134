//! Counts how often a server flushes its log, by a source that its version has.

use std::time::Duration;

use rlock_core::Backend as _;
use rlock_postgres::PostgresBackend;
use tokio::time::sleep;

use super::{Server, key};

/// The first version that counts flushes: `server_version_num`, as the others.
const COUNTS: i64 = 140_000;
/// The first version whose sessions write their statistics into shared memory. Before, a process collects them.
const SHARES: i64 = 150_000;
/// The first version that counts flushes among all its input and output.
const COUNTS_ALL: i64 = 180_000;

impl Server {
    /// A server that flushes its log, and whose flushes can be counted.
    pub(crate) async fn start_flushing() -> Self {
        let server = Self::start_with(&["-c", "fsync=on"]).await;
        if server.version() < COUNTS {
            // A write to the log is a flush then, and the kernel counts the writes of each process.
            server.query("ALTER SYSTEM SET wal_sync_method = open_datasync");
            server.query("SELECT pg_reload_conf()");
            server.wait_for("SHOW wal_sync_method", "open_datasync").await;
        }
        server
    }

    /// How many times the log was flushed. Before version 14, by sessions of rlock that do not listen: clients that
    /// connected before the last count have to be connected still.
    pub(crate) fn flushes(&self) -> i64 {
        self.number(match self.version() {
            COUNTS_ALL.. => "SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal' AND context = 'normal'",
            COUNTS.. => "SELECT wal_sync FROM pg_stat_wal",
            _ => {
                "SELECT sum(substring(pg_read_file('/proc/' || pid || '/io', 0, 1000) FROM 'syscw: (\\d+)')::bigint) \
                 FROM pg_stat_activity WHERE application_name = 'rlock' AND query NOT LIKE 'LISTEN%'"
            }
        })
    }

    /// Waits until the statistics include all that `client` has done. A session reports them at the end of a transaction, if
    /// it has not reported for a second.
    pub(crate) async fn let_statistics_be_told(&self, client: &PostgresBackend) {
        sleep(Duration::from_millis(1_100)).await;
        client.inspect(&key("name 0", 0).resource).await.unwrap();
        if self.version() < SHARES {
            sleep(Duration::from_millis(1_100)).await; // readers may be given a file of half a second ago
        }
    }

    fn version(&self) -> i64 {
        self.number("SHOW server_version_num")
    }
}
