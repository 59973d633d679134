//! Servers that use TLS and client certificates.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rlock_core::{Client, SimpleLock};
use rlock_redis::{ConnectError, RedisBackend, RedisConfig};
use rlock_testkit::certificates;
use rlock_testkit::servers::Resp;
use rlock_testkit::wait::{eventually, within};
use tempfile::TempDir;

use crate::support::{Program, SOON, free_port, serve_all_slots};

/// A server that only accepts clients with a certificate from its authority.
struct TlsServer {
    port: u16,
    folder: TempDir,
    _program: Program,
}

impl TlsServer {
    async fn start() -> Self {
        let server = Self::start_with(&[&["--port", "0"]]);
        let answers = async || RedisBackend::connect(server.config("127.0.0.1", "ca", Some("client"))).await.is_ok();
        eventually(SOON, "the server", answers).await;
        server
    }

    /// Starts a server with more settings, which may not serve clients yet.
    fn start_with(settings: &[&[&str]]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates::make(folder.path());
        let port = free_port();
        let program = start_program(folder.path(), port, settings);
        Self { port, folder, _program: program }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A URL of this server, its cluster or its sentinels, with the files for TLS.
    fn with_files(&self, url: &str) -> String {
        let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| self.file(name));
        format!("{url}?restart_grace=0s&ca={ca}&cert={cert}&key={key}")
    }

    fn config(&self, host: &str, authority: &str, client: Option<&str>) -> RedisConfig {
        let file = |name: String| self.folder.path().join(name);
        let url = format!("rediss://{host}:{}?restart_grace=0s&connect_timeout=3s", self.port);
        let config = RedisConfig::from_url(&url).unwrap().ca(file(format!("{authority}.pem"))).unwrap();
        match client {
            Some(client) => config.identity(file(format!("{client}.pem")), file(format!("{client}.key"))).unwrap(),
            None => config,
        }
    }
}

/// Starts a server or a sentinel with the certificates in `folder`.
fn start_program(folder: &Path, port: u16, settings: &[&[&str]]) -> Program {
    let file = |name: &str| folder.join(name).display().to_string();
    let of_tls: [&[&str]; 7] = [
        &["--tls-port", &port.to_string()],
        &["--tls-cert-file", &file("server.pem")],
        &["--tls-key-file", &file("server.key")],
        &["--tls-ca-cert-file", &file("ca.pem")],
        &["--bind", "127.0.0.1", "127.0.0.2"],
        &["--dir", &folder.display().to_string()],
        &["--save", ""],
    ];
    Program::start(&[settings, &of_tls].concat())
}

async fn locks_are_had(url: &str) {
    let connect = || RedisBackend::connect(RedisConfig::from_url(url).unwrap());
    eventually(SOON, "the servers", async || connect().await.is_ok()).await;
    let client = Client::builder().connect(connect()).await.unwrap();
    SimpleLock::new("a", &client).unwrap().lock().await.unwrap().unlock().await.unwrap();
}

async fn refusal(config: RedisConfig) -> ConnectError {
    within(SOON, "an answer", RedisBackend::connect(config)).await.unwrap_err()
}

#[tokio::test]
async fn clients_with_certificates_have_locks() {
    let server = TlsServer::start().await;
    for host in ["127.0.0.1", "localhost"] {
        let config = server.config(host, "ca", Some("client"));
        let client = Client::builder().connect(RedisBackend::connect(config)).await.unwrap();
        let guard = SimpleLock::new("a", &client).unwrap().lock().await.unwrap();
        guard.extend(Duration::from_secs(60)).await.unwrap();
        guard.unlock().await.unwrap();
    }
    locks_are_had(&server.with_files(&format!("rediss://127.0.0.1:{}", server.port))).await;
}

#[tokio::test]
async fn nodes_announce_hosts_of_their_certificates() {
    let [plain, bus] = [(); 2].map(|()| free_port().to_string());
    let settings: [&[&str]; 5] = [
        &["--port", &plain],
        &["--cluster-enabled", "yes"],
        &["--cluster-port", &bus],
        &["--cluster-announce-ip", "127.0.0.2"],
        &["--tls-cluster", "yes"],
    ];
    let node = TlsServer::start_with(&settings);
    let plain = format!("redis://127.0.0.1:{plain}");
    eventually(SOON, "the node", async || Resp::connect(&plain).is_ok()).await;
    serve_all_slots(Resp::connect(&plain).unwrap()).await;

    let url = node.with_files(&format!("rediss-cluster://127.0.0.1:{}", node.port));
    let refused = refusal(RedisConfig::from_url(&format!("{url}&connect_timeout=3s")).unwrap()).await;
    assert!(refused.to_string().contains("is not for this host"), "{refused}");
    locks_are_had(&format!("{url}&address_map=127.0.0.2:{0}=127.0.0.1:{0}", node.port)).await;
}

#[tokio::test]
async fn sentinels_and_their_servers_use_tls() {
    let server = TlsServer::start().await;
    let file = server.file("sentinel.conf");
    fs::write(&file, format!("sentinel monitor locks 127.0.0.1 {} 1\n", server.port)).unwrap();
    let port = free_port();
    let settings: [&[&str]; 3] = [&[&file, "--sentinel"], &["--port", "0"], &["--tls-replication", "yes"]];
    let _sentinel = start_program(server.folder.path(), port, &settings);
    locks_are_had(&server.with_files(&format!("rediss-sentinel://127.0.0.1:{port}/locks"))).await;
}

#[tokio::test]
async fn failed_handshakes_name_their_cause() {
    let server = TlsServer::start().await;
    for (config, cause) in [
        (server.config("127.0.0.1", "other", Some("client")), "an authority that is not trusted"),
        (server.config("127.0.0.2", "ca", Some("client")), "is not for this host"),
        (server.config("127.0.0.1", "ca", None), "cert=FILE and key=FILE"),
        (server.config("127.0.0.1", "ca", Some("stranger")), "cert=FILE and key=FILE"),
    ] {
        let error = refusal(config).await;
        assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");
        assert!(error.to_string().contains(cause), "{error} is not {cause}");
    }
}

#[tokio::test]
async fn unusable_files_are_named() {
    let server = TlsServer::start().await;
    for (config, file) in [
        (server.config("127.0.0.1", "nobody", None), "nobody.pem"),
        (server.config("127.0.0.1", "ca", Some("nobody")), "nobody"),
        (RedisConfig::from_url("rediss://127.0.0.1?ca=/dev/null").unwrap(), "/dev/null"),
    ] {
        let error = refusal(config).await;
        assert!(matches!(error, ConnectError::Rejected(_)), "{error:?}");
        assert!(error.to_string().contains(file), "{error}");
    }
}
