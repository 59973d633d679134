//! Encrypted connections.

use std::fs;
use std::sync::{Arc, Mutex};

use rlock_core::{Acquired, Backend as _, Extended, Extension, IfBusy, Share};
use rlock_postgres::{ConnectError, PostgresBackend, PostgresBaseline};
use rlock_testkit::certificates;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Server, claim, key, listener_in_front_of, release, ttl};

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

/// The TLS records of a client, as a relay in front of the server sees them.
#[derive(Debug, Default)]
struct Records {
    /// The bytes up to the next record.
    ahead: usize,
    /// The header of a record that has not arrived whole.
    header: Vec<u8>,
    count: u32,
    /// The number of records since the last bytes of the server.
    unanswered: u32,
    /// How often a record followed another one to which the server had not answered, counted once up to its answer.
    /// The kernel may hold it back until the server has acknowledged the other.
    stalls: u32,
}

impl Records {
    /// The client's request for TLS, in front of all records.
    const REQUEST: usize = 8;
    const HEADER: usize = 5;

    fn sent(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.ahead > 0 {
                self.ahead -= 1;
                continue;
            }
            self.header.push(byte);
            if self.header.len() == Self::HEADER {
                self.ahead = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.header.clear();
                self.count += 1;
                self.unanswered += 1;
                self.stalls += u32::from(self.unanswered == 2);
            }
        }
    }

    fn answered(&mut self) {
        self.unanswered = 0;
    }
}

/// Relays connections to a server, and returns the relay's URL and the records of each connection.
async fn relay_to(server: &str) -> (String, Arc<Mutex<Vec<Records>>>) {
    let (listener, url, addresses) = listener_in_front_of(server).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = seen.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&addresses[..]).await.unwrap();
            let number = {
                let mut all = all.lock().unwrap();
                all.push(Records { ahead: Records::REQUEST, ..Records::default() });
                all.len() - 1
            };
            tokio::spawn(relay_between(client, server, all.clone(), number));
        }
    });
    (url, seen)
}

async fn relay_between(mut client: TcpStream, mut server: TcpStream, all: Arc<Mutex<Vec<Records>>>, number: usize) {
    let (mut asked, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(count @ 1..) = read else { return };
                all.lock().unwrap()[number].sent(&asked[..count]);
                let Ok(()) = server.write_all(&asked[..count]).await else { return };
            }
            read = server.read(&mut answer) => {
                let Ok(count @ 1..) = read else { return };
                all.lock().unwrap()[number].answered();
                let Ok(()) = client.write_all(&answer[..count]).await else { return };
            }
        }
    }
}

/// The client sends several records in a row at the end of the handshake. It also does so in the middle, if the server asks
/// for another key exchange. A request is one record.
#[tokio::test]
async fn only_the_handshake_stalls_a_connection() {
    let (server, folder) = Server::start_with_tls().await;
    let (relay, seen) = relay_to(server.0.url()).await;
    let client = PostgresBackend::connect(server.config_of(&verified(&relay, &folder, "ca.pem"))).await.unwrap();
    let (connecting, stalls) = {
        let seen = seen.lock().unwrap();
        (seen[0].count, seen[0].stalls)
    };
    assert!(stalls <= 2, "{stalls} stalls of the handshake");
    for id in 0..5 {
        let claims: Vec<_> =
            (0..20).map(|number| claim(&format!("name {number}"), id, Share::EXCLUSIVE, IfBusy::Refuse)).collect();
        assert!(client.acquire(&claims).await.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))));
        let extension = Extension { key: key("name 0", id), ttl: ttl(60_000) };
        assert!(matches!(client.extend(&[extension]).await[0], Ok(Extended::Held(_))));
        for number in 0..20 {
            release(&client, &format!("name {number}"), id).await;
        }
    }
    let seen = seen.lock().unwrap();
    let [records] = &seen[..] else { panic!("{} connections", seen.len()) };
    assert!(records.count >= connecting + 110, "{connecting}, then {records:?}");
    assert_eq!(records.stalls, stalls, "a request has stalled: {records:?}");
}
