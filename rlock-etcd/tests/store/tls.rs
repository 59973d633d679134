//! Servers that speak TLS, and know their clients by certificates.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{SOON, Server, free_port};
use rlock_core::{Client, LockOptions, SimpleLock};
use rlock_etcd::{ConnectError, EtcdBackend, EtcdConfig};
use rlock_testkit::certificates;
use rlock_testkit::wait::{eventually, within};
use tempfile::TempDir;

/// An etcd that only talks to whom its authority has given a certificate.
struct TlsServer {
    running: Child,
    port: u16,
    folder: TempDir,
}

impl TlsServer {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates::make(folder.path());
        let (port, at) = (free_port(), |name: &str| folder.path().join(name));
        let log = File::create(at("server.log")).unwrap();
        let url = format!("https://127.0.0.1:{port}");
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(at("data")).args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.arg("--cert-file").arg(at("server.pem")).arg("--key-file").arg(at("server.key"));
        command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(at("ca.pem"));
        // It is alone; nobody looks for it there.
        let nowhere = "http://127.0.0.1:1";
        command.args(["--initial-cluster", &format!("default={nowhere}"), "--initial-advertise-peer-urls", nowhere]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:0", "--heartbeat-interval", "10"]);
        command.args(["--election-timeout", "100", "--logger", "zap"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let running = command.spawn().expect("etcd runs (Debian: apt-get install etcd-server)");
        let mut server = Self { running, port, folder };
        eventually(SOON, "the server", async || {
            let ended = server.running.try_wait().unwrap();
            let log = || fs::read_to_string(server.folder.path().join("server.log")).unwrap_or_default();
            assert!(ended.is_none(), "etcd did not start: {}", log());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        server
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// With whatever is not in the URL left out.
    fn config(&self, scheme: &str, host: &str) -> EtcdConfig {
        let url = format!("{scheme}://{host}:{}?restart_grace=0s&connect_timeout=3s", self.port);
        EtcdConfig::from_url(&url).unwrap()
    }

    fn trusted(&self, host: &str) -> EtcdConfig {
        self.config("etcds", host).ca(self.file("ca.pem")).unwrap()
    }

    fn known(&self, host: &str) -> EtcdConfig {
        self.trusted(host).identity(self.file("client.pem"), self.file("client.key")).unwrap()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ended_already = self.running.kill();
        let _status = self.running.wait();
    }
}

/// That the connection does not come about, and the reason speaks of TLS.
async fn fails(config: EtcdConfig) {
    let error = within(SOON, "an answer", EtcdBackend::connect(config)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().contains("TLS"), "{error}");
}

/// That it is refused for good, and the reason names the file.
async fn rejects(config: EtcdConfig, file: &str) {
    let error = within(SOON, "an answer", EtcdBackend::connect(config)).await.unwrap_err();
    assert!(error.to_string().contains(file), "{error}");
    assert!(matches!(error, ConnectError::Rejected(_)), "{error:?}");
}

#[tokio::test]
async fn clients_with_certificates_have_locks() {
    let server = TlsServer::start().await;
    for host in ["127.0.0.1", "localhost"] {
        let connect = || Client::builder().connect(EtcdBackend::connect(server.known(host)));
        let (one, other) = (connect().await.unwrap(), connect().await.unwrap());
        let options = || LockOptions::new().ttl(Duration::from_secs(30));
        let guard = SimpleLock::new("a", &one).unwrap().lock_with(options()).await.unwrap();
        guard.extend(Duration::from_secs(60)).await.unwrap();
        let waiting = SimpleLock::new("a", &other).unwrap();
        let waiter = tokio::spawn(async move { waiting.lock_with(options()).await.unwrap() });
        let queued = async || one.inspect(guard.resource()).await.unwrap().queue.len() == 1;
        eventually(SOON, "the waiter", queued).await;
        guard.unlock().await.unwrap();
        within(SOON, "the hand-over", waiter).await.unwrap().unlock().await.unwrap();
    }
}

#[tokio::test]
async fn a_client_without_a_certificate() {
    let server = TlsServer::start().await;
    fails(server.trusted("127.0.0.1")).await;
}

#[tokio::test]
async fn a_client_with_the_certificate_of_a_stranger() {
    let server = TlsServer::start().await;
    let [certificate, key] = ["stranger.pem", "stranger.key"].map(|name| server.file(name));
    fails(server.trusted("127.0.0.1").identity(certificate, key).unwrap()).await;
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_trusted() {
    let server = TlsServer::start().await;
    fails(server.known("127.0.0.1").ca(server.file("other.pem")).unwrap()).await;
    fails(server.config("etcds", "127.0.0.1")).await;
}

#[tokio::test]
async fn plain_where_the_server_speaks_tls() {
    let server = TlsServer::start().await;
    fails(server.config("etcd", "127.0.0.1")).await;
}

#[tokio::test]
async fn tls_where_the_server_speaks_none() {
    let server = Server::start();
    fails(EtcdConfig::from_url(&format!("etcds://{}", server.address())).unwrap()).await;
}

#[tokio::test]
async fn a_file_that_is_missing() {
    let server = TlsServer::start().await;
    let (there, missing) = (server.file("client.pem"), server.file("missing.pem"));
    rejects(server.config("etcds", "127.0.0.1").ca(&missing).unwrap(), "missing.pem").await;
    rejects(server.trusted("127.0.0.1").identity(&there, &missing).unwrap(), "missing.pem").await;
    rejects(server.trusted("127.0.0.1").identity(&missing, &there).unwrap(), "missing.pem").await;
}

#[tokio::test]
async fn a_file_with_something_else_in_it() {
    let server = TlsServer::start().await;
    let (there, other) = (server.file("client.pem"), server.file("extensions"));
    rejects(server.trusted("127.0.0.1").identity(&there, &other).unwrap(), "extensions").await;
    rejects(server.trusted("127.0.0.1").identity(&other, server.file("client.key")).unwrap(), "extensions").await;
    rejects(server.config("etcds", "127.0.0.1").ca(&other).unwrap(), "extensions").await;
}
