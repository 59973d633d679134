//! Counts the flushes of a server's log, by a source that its version has.

use std::time::Duration;

use rlock_core::Backend as _;
use rlock_postgres::PostgresBackend;
use tokio::time::sleep;

use super::{Server, key};

/// The first version that counts flushes, as `server_version_num`.
const COUNTS: i64 = 140_000;
/// The first version whose sessions write their statistics into shared memory. In older versions a process collects
/// them.
const SHARES: i64 = 150_000;
/// The first version that counts flushes among all input and output.
const COUNTS_ALL: i64 = 180_000;

impl Server {
    /// A server that flushes its log, with flushes that can be counted.
    pub(crate) async fn start_flushing() -> Self {
        // Otherwise the log's writer flushes changes that no request waits for, five times a second.
        let server = Self::start_with(&["-c", "fsync=on", "-c", "wal_writer_delay=10s"]).await;
        if server.version() < COUNTS {
            // With this method a write to the log is a flush, and the kernel counts the writes of each process.
            server.query("ALTER SYSTEM SET wal_sync_method = open_datasync");
            server.query("SELECT pg_reload_conf()");
            server.wait_for("SHOW wal_sync_method", "open_datasync").await;
        }
        server
    }

    /// Stops the process that flushes the log in the background, which must be asleep most of the time: it could have
    /// locked the log. From now on only a commit that waits for the log flushes it.
    pub(crate) async fn stop_wal_writer(&self) {
        const WRITER: &str = "FROM pg_stat_activity WHERE backend_type = 'walwriter'";
        self.wait_for(&format!("SELECT coalesce(wait_event, '') {WRITER}"), "WalWriterMain").await;
        let process = self.number(&format!("SELECT pid {WRITER}"));
        // The server may have another user, or be in a container.
        self.query(&format!("COPY (SELECT 1) TO PROGRAM 'kill -STOP {process} && cat > /dev/null'"));
        let state = format!("SELECT pg_read_file('/proc/{process}/stat', 0, 100) LIKE '%) T %'");
        self.wait_for(&state, "t").await;
    }

    /// The number of flushes of the log. Before version 14 only those by sessions of rlock that do not listen: clients
    /// that connected before the last count must still be connected.
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

    /// Waits until the statistics include all work of `client`. A session reports them at the end of a transaction, at
    /// most once a second.
    pub(crate) async fn wait_for_statistics(&self, client: &PostgresBackend) {
        sleep(Duration::from_millis(1_100)).await;
        client.inspect(&key("name 0", 0).resource).await.unwrap();
        if self.version() < SHARES {
            sleep(Duration::from_millis(1_100)).await; // readers may get a file that is half a second old
        }
    }

    fn version(&self) -> i64 {
        self.number("SHOW server_version_num")
    }
}
