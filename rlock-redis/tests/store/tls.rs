//! Servers that use TLS and client certificates.

use std::time::Duration;

use rlock_core::{Client, SimpleLock};
use rlock_redis::{ConnectError, RedisBackend, RedisConfig};
use rlock_testkit::certificates;
use rlock_testkit::wait::{eventually, within};
use tempfile::TempDir;

use crate::support::{Program, SOON, free_port};

/// A server that only accepts clients with a certificate from its authority.
struct TlsServer {
    port: u16,
    folder: TempDir,
    _program: Program,
}

impl TlsServer {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates::make(folder.path());
        let port = free_port();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let settings: [&[&str]; 7] = [
            &["--port", "0"],
            &["--tls-port", &port.to_string()],
            &["--tls-cert-file", &file("server.pem")],
            &["--tls-key-file", &file("server.key")],
            &["--tls-ca-cert-file", &file("ca.pem")],
            &["--bind", "127.0.0.1", "127.0.0.2"],
            &["--save", ""],
        ];
        let program = Program::start(&settings);
        let server = Self { port, folder, _program: program };
        let answers = async || RedisBackend::connect(server.config("127.0.0.1", "ca", Some("client"))).await.is_ok();
        eventually(SOON, "the server", answers).await;
        server
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
    let file = |name: &str| server.folder.path().join(name).display().to_string();
    let options = format!("ca={}&cert={}&key={}", file("ca.pem"), file("client.pem"), file("client.key"));
    let url = format!("rediss://127.0.0.1:{}?restart_grace=0s&{options}", server.port);
    RedisBackend::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap();
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
