//! Encrypted connections.

use std::fs;

use rlock_core::{Acquired, Backend as _, IfBusy, Share};
use rlock_postgres::{ConnectError, PostgresBackend, PostgresBaseline};
use rlock_testkit::certificates;
use tempfile::TempDir;

use crate::support::{Server, claim, release};

impl Server {
    /// Starts a server with TLS. The authority of its certificate is `ca.pem` in the folder; `other.pem` is another.
    async fn start_with_tls() -> (Self, TempDir) {
        let folder = TempDir::new().unwrap();
        certificates::make(folder.path());
        let server = Self::start().await;
        for name in ["server.key", "server.pem"] {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            // The server may be in a container, or have another user.
            let write = format!("umask 077; cat > {name}");
            server.query(&format!("COPY (SELECT unnest(string_to_array('{text}', E'\\n'))) TO PROGRAM '{write}'"));
        }
        for setting in ["ssl_key_file = 'server.key'", "ssl_cert_file = 'server.pem'", "ssl = on"] {
            server.query(&format!("ALTER SYSTEM SET {setting}"));
        }
        server.query("SELECT pg_reload_conf()");
        server.wait_for("SHOW ssl", "on").await;
        (server, folder)
    }
}

fn verified(url: &str, folder: &TempDir, authority: &str) -> String {
    format!("{url}?sslmode=verify-full&sslrootcert={}/{authority}", folder.path().display())
}

#[tokio::test]
async fn a_verified_server_is_used_over_tls() {
    let (server, folder) = Server::start_with_tls().await;
    let url = verified(server.0.url(), &folder, "ca.pem");
    let client = PostgresBackend::connect(server.config_of(&url)).await.unwrap();
    assert!(matches!(
        client.acquire(&[claim("x", 1, Share::EXCLUSIVE, IfBusy::Refuse)]).await[0],
        Ok(Acquired::Held(_))
    ));
    // It has one connection.
    let encrypted = "SELECT string_agg(s.ssl::text, ' ') FROM pg_stat_ssl AS s JOIN pg_stat_activity AS a USING (pid) \
                     WHERE a.application_name = 'rlock'";
    assert_eq!(server.value(encrypted), "true");
    release(&client, "x", 1).await;

    let refused = PostgresBackend::connect(server.config_of(&verified(server.0.url(), &folder, "other.pem"))).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, ConnectError::Rejected(_)), "{refused}");
    assert!(refused.to_string().contains("sslrootcert"), "{refused}");
}

#[tokio::test]
async fn failed_handshake_leaves_prefer_unencrypted() {
    let (server, _folder) = Server::start_with_tls().await;
    // rustls speaks no version of TLS before 1.2.
    for setting in ["ssl_min_protocol_version = 'TLSv1'", "ssl_max_protocol_version = 'TLSv1.1'"] {
        server.query(&format!("ALTER SYSTEM SET {setting}"));
    }
    server.query("SELECT pg_reload_conf()");
    server.wait_for("SHOW ssl_max_protocol_version", "TLSv1.1").await;
    let config = |mode: &str| server.config_of(&format!("{}?sslmode={mode}", server.0.url()));
    PostgresBackend::connect(config("require")).await.unwrap_err();

    // One connection listens, and the other is for requests alone.
    let client = PostgresBackend::connect(config("prefer")).await.unwrap();
    let claims = ["a", "b"].map(|name| [claim(name, 1, Share::EXCLUSIVE, IfBusy::Refuse)]);
    for answers in futures_util::future::join_all(claims.iter().map(|claims| client.acquire(claims))).await {
        assert!(matches!(answers[0], Ok(Acquired::Held(_))), "{answers:?}");
    }
    let _baseline = PostgresBaseline::connect(config("prefer")).await.unwrap();
    let encrypted = "SELECT string_agg(DISTINCT s.ssl::text, ' ') FROM pg_stat_ssl AS s JOIN pg_stat_activity AS a \
                     USING (pid) WHERE a.application_name = 'rlock'";
    assert_eq!(server.value(encrypted), "false");
}
