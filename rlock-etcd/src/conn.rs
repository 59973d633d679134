//! One connection to one server.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use etcd_client::{
    Client, ClusterClient, ConnectOptions, GetOptions, KvClient, LeaseClient, MaintenanceClient, WatchClient,
};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::EtcdConfig;
use crate::config::Endpoint;
use crate::epoch::{Epoch, EpochKeys};
use crate::error::{CallError, Kind};

/// The interval of heartbeats on an idle connection. A server rejects clients that send them more often than every five
/// seconds, its `--grpc-keepalive-min-time`.
const HEARTBEAT: Duration = Duration::from_secs(6);
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(2);
/// How long to wait before retrying a server without a leader.
const PAUSE: Duration = Duration::from_millis(50);
/// The largest answer to accept, in bytes: a queue of some hundred thousand leases.
const LONGEST_ANSWER: usize = 64 << 20;

/// An open connection, shared by all users of the client.
#[derive(Debug)]
pub(crate) struct Conn {
    kv: Opaque<KvClient>,
    lease: Opaque<LeaseClient>,
    watch: Opaque<WatchClient>,
    maintenance: Opaque<MaintenanceClient>,
    cluster: Opaque<ClusterClient>,
    /// The `host:port` of its server.
    pub(crate) endpoint: String,
    /// The epoch that its server's tokens count from, and the etcd lease that the epoch's key is attached to. It is set
    /// last.
    epoch: OnceLock<(Epoch, i64)>,
    keys: EpochKeys,
    ended: watch::Sender<bool>,
}

/// Something that has no `Debug`.
struct Opaque<T>(T);

impl Conn {
    /// Connects, logs in, and makes a request that the server can only answer with the others.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no connection behind.
    pub(crate) async fn open(config: &EtcdConfig, endpoint: &Endpoint) -> Result<Arc<Self>, CallError> {
        let options = options(config)?;
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let at = format!("{}:{}", endpoint.host, endpoint.port);
        let url = format!("{scheme}://{at}");
        let open = async {
            let client = Client::connect([url], Some(options)).await?;
            let conn = Arc::new(Self {
                kv: Opaque(client.kv_client().max_decoding_message_size(LONGEST_ANSWER)),
                lease: Opaque(client.lease_client()),
                watch: Opaque(client.watch_client()),
                maintenance: Opaque(client.maintenance_client()),
                cluster: Opaque(client.cluster_client()),
                endpoint: at,
                epoch: OnceLock::new(),
                keys: EpochKeys::new(&config.namespace, config.restart_grace),
                ended: watch::Sender::new(false),
            });
            loop {
                match conn.keys.read_or_begin(conn.kv(), conn.lease()).await {
                    Ok(epoch) => {
                        if config.credentials.is_some() {
                            conn.keys.try_rights(conn.kv()).await?;
                        }
                        conn.epoch.get_or_init(|| epoch);
                        return Ok(conn);
                    }
                    // The servers have no leader, or are changing it.
                    Err(error) if error.kind == Kind::Unanswered || error.has_no_leader() => sleep(PAUSE).await,
                    Err(error) => return Err(error),
                }
            }
        };
        let unanswered =
            |_| CallError::new(Kind::Unsent, format!("no answer within {:?}: {IS_IT}", config.connect_timeout));
        let opened = timeout(config.connect_timeout, open).await.map_err(unanswered)?;
        opened.map_err(|mut error: CallError| {
            if error.kind == Kind::Broken {
                error.cause.reason = format!("{}: {}", error.cause.reason, is_it(config));
            }
            error
        })
    }

    pub(crate) fn kv(&self) -> KvClient {
        self.kv.0.clone()
    }

    pub(crate) fn lease(&self) -> LeaseClient {
        self.lease.0.clone()
    }

    pub(crate) fn watch(&self) -> WatchClient {
        self.watch.0.clone()
    }

    pub(crate) fn maintenance(&self) -> MaintenanceClient {
        self.maintenance.0.clone()
    }

    pub(crate) fn cluster(&self) -> ClusterClient {
        self.cluster.0.clone()
    }

    /// Checks that the server answers and reaches a majority: the answer needs a round of messages among the servers.
    pub(crate) async fn probe(&self) -> Result<(), CallError> {
        let options = GetOptions::new().with_count_only();
        self.kv().get(self.keys.any(), Some(options)).await?;
        Ok(())
    }

    /// The epoch that the server's tokens count from.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch.get().expect(EPOCH_IS_READ).0
    }

    /// The etcd lease that the epoch's key is attached to; `None` if it has none.
    pub(crate) fn epoch_lease(&self) -> Option<i64> {
        Some(self.epoch.get().expect(EPOCH_IS_READ).1).filter(|lease| *lease != 0)
    }

    pub(crate) fn keys(&self) -> &EpochKeys {
        &self.keys
    }

    /// Makes all requests in flight on it fail, and has the connection replaced.
    pub(crate) fn give_up(&self) {
        self.ended.send_replace(true);
    }

    /// Returns once the connection was given up.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        let _sender_is_here = ended.wait_for(|&ended| ended).await;
    }
}

const EPOCH_IS_READ: &str = "the epoch is read before the connection is shared";
const IS_IT: &str = "is it an etcd server, reachable, with a leader?";

fn is_it(config: &EtcdConfig) -> &'static str {
    if config.tls.is_some() {
        "is it an etcd server that speaks TLS on this port, and does it require another client certificate (cert, key)?"
    } else {
        "is it an etcd server, and does it want TLS (etcds://)?"
    }
}

/// The options of a connection, with the user to log in as.
pub(crate) fn options(config: &EtcdConfig) -> Result<ConnectOptions, CallError> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(config.connect_timeout)
        .with_keep_alive(HEARTBEAT, HEARTBEAT_LIMIT)
        .with_keep_alive_while_idle(true)
        // A server that has lost its leader then answers with an error, and ends its streams.
        .with_require_leader(true);
    if let Some(credentials) = &config.credentials {
        options = options.with_user(&credentials.user, &credentials.password).with_auto_token_refresh(true);
    }
    #[cfg(feature = "tls")]
    if let Some(tls) = &config.tls {
        options = options.with_tls(tls_options(tls)?);
    }
    Ok(options)
}

#[cfg(feature = "tls")]
fn tls_options(tls: &rlock_core::TlsFiles) -> Result<etcd_client::TlsOptions, CallError> {
    use etcd_client::{Certificate, Identity, TlsOptions};
    use rlock_core::Cause;

    let read = |path: &std::path::Path, what: &str| {
        let text = std::fs::read(path).map_err(|error| {
            let reason = format!("the file {} cannot be read: {error}", path.display());
            CallError { kind: Kind::Refused, cause: Cause::new(reason).caused_by(error) }
        })?;
        let begins =
            |line: &[u8]| line.starts_with(b"-----BEGIN ") && line.windows(what.len()).any(|at| at == what.as_bytes());
        if text.split(|&byte| byte == b'\n').any(begins) {
            return Ok(text);
        }
        let reason = format!("the file {} contains no {what} in PEM", path.display());
        Err(CallError::new(Kind::Refused, reason))
    };
    let mut options = TlsOptions::new();
    options = match tls.ca() {
        Some(ca) => options.ca_certificate(Certificate::from_pem(read(ca, "CERTIFICATE")?)),
        None => options.with_enabled_roots(),
    };
    if let Some((certificate, key)) = tls.identity() {
        options = options.identity(Identity::from_pem(read(certificate, "CERTIFICATE")?, read(key, "PRIVATE KEY")?));
    }
    Ok(options)
}

impl<T> std::fmt::Debug for Opaque<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}
