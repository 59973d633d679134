//! Servers that use TLS and client certificates.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::{Program, SOON, Server};
use rlock_core::{Client, LockOptions, SimpleLock};
use rlock_etcd::{ConnectError, EtcdBackend, EtcdConfig};
use rlock_testkit::certificates;
use rlock_testkit::wait::{eventually, within};

/// An etcd that only accepts clients with a certificate from its authority.
struct TlsServer(Program);

impl TlsServer {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates::make(folder.path());
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (certificate, key, ca) = (file("server.pem"), file("server.key"), file("ca.pem"));
        let arguments =
            ["--cert-file", &certificate, "--key-file", &key, "--client-cert-auth", "--trusted-ca-file", &ca];
        Self(Program::start("https", folder, &arguments).await)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.file(name)
    }

    /// The configuration with the options of the URL only.
    fn config(&self, scheme: &str, host: &str) -> EtcdConfig {
        let url = format!("{scheme}://{host}:{}?restart_grace=0s&connect_timeout=3s", self.0.port());
        EtcdConfig::from_url(&url).unwrap()
    }

    fn trusted(&self, host: &str) -> EtcdConfig {
        self.config("etcds", host).ca(self.file("ca.pem")).unwrap()
    }

    fn known(&self, host: &str) -> EtcdConfig {
        self.trusted(host).identity(self.file("client.pem"), self.file("client.key")).unwrap()
    }
}

/// Asserts that connecting fails, with a reason about TLS.
async fn fails(config: EtcdConfig) {
    let error = within(SOON, "an answer", EtcdBackend::connect(config)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().contains("TLS"), "{error}");
}

/// Asserts that connecting is rejected, with a reason that names the file.
async fn rejects(config: EtcdConfig, file: &str) {
    let error = within(SOON, "an answer", EtcdBackend::connect(config)).await.unwrap_err();
    assert!(error.to_string().contains(file), "{error}");
    assert!(matches!(error, ConnectError::Rejected(_)), "{error:?}");
}

#[tokio::test]
async fn clients_with_certificates_have_locks() {
    let server = TlsServer::start().await;
    for host in ["127.0.0.1", "localhost"] {
        let config = server.known(host).connect_timeout(SOON).unwrap(); // a busy machine takes its time
        let connect = || Client::builder().connect(EtcdBackend::connect(config.clone()));
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
