//! Requests that reach the server after their client has given them up.

use std::fmt;

use rlock_core::{Acquired, Backend as _, BackendError, Claim, IfBusy, Share};
use rlock_postgres::PostgresBackend;
use rlock_testkit::faults::{Control as _, Proxy};
use rlock_testkit::servers::PgBouncer;

use crate::support::{Server, claim, release};

fn exclusive(name: &str) -> [Claim; 1] {
    [claim(name, 1, Share::EXCLUSIVE, IfBusy::Refuse)]
}

#[tokio::test]
async fn late_claim_is_undone() {
    let server = Server::start().await;
    let (client, session) = client(&server).await;
    let claims = exclusive("x");
    is_late(&server, session, async { client.acquire(&claims).await.remove(0) }).await;
    let taken = server.number("SELECT count(*) FROM rlock.locks WHERE name = 'x' AND expires > 0");
    assert_eq!(taken, 0, "the late claim took effect");
}

#[tokio::test]
async fn late_break_is_undone() {
    let server = Server::start().await;
    let (breaker, session) = client(&server).await;
    let (holder, claims) = (server.client().await, exclusive("x"));
    is_granted(&holder, &claims).await;
    is_late(&server, session, breaker.break_leases(&claims[0].key.resource)).await;
    release(&holder, "x", 1).await;
}

/// A client and its session, which has prepared the calls of both procedures.
async fn client(server: &Server) -> (PostgresBackend, i64) {
    let client = server.client().await;
    let another = exclusive("another");
    is_granted(&client, &another).await;
    client.break_leases(&another[0].key.resource).await.unwrap();
    // The session that made the tables may still be closing.
    let called = "SELECT pid FROM pg_stat_activity WHERE application_name = 'rlock' AND query LIKE 'CALL%'";
    (client, server.number(called))
}

/// Sends a request to a server that stands still until the client has given the request up. The client's next session
/// ends the one of the request, which the server may have carried out before.
async fn is_late<T: fmt::Debug>(server: &Server, session: i64, request: impl Future<Output = Result<T, BackendError>>) {
    server.0.pause().await;
    let unanswered = request.await;
    server.0.resume().await;
    assert!(matches!(unanswered, Err(BackendError::Unknown(_))), "{unanswered:?}");
    let has_ended = format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {session})");
    server.wait_for(&has_ended, "t").await;
}

/// The client has given the claim up, sent it again, and released its lease. Then the first one arrives.
#[tokio::test]
async fn late_claim_behind_a_pooler_is_undone() {
    let server = Server::start().await;
    let (client, claims) = (Pooled::start(&server).await, exclusive("x"));
    client.proxy.strand();
    let unanswered = client.backend.acquire(&claims).await.remove(0);
    assert!(matches!(unanswered, Err(BackendError::Unknown(_))), "{unanswered:?}");
    is_granted(&client.backend, &claims).await;
    release(&client.backend, "x", 1).await;
    client.delivers(&server).await;
    assert_eq!(server.value("SELECT expires FROM rlock.locks"), "0", "the late claim took effect");
}

/// The client has given the break up, and another one has the lock. Then the break arrives.
#[tokio::test]
async fn late_break_behind_a_pooler_is_undone() {
    let server = Server::start().await;
    let (breaker, claims) = (Pooled::start(&server).await, exclusive("x"));
    breaker.proxy.strand();
    let unanswered = breaker.backend.break_leases(&claims[0].key.resource).await;
    assert!(matches!(unanswered, Err(BackendError::Unknown(_))), "{unanswered:?}");
    let holder = server.client().await;
    is_granted(&holder, &claims).await;
    breaker.delivers(&server).await;
    release(&holder, "x", 1).await;
}

/// A client whose requests to a pooler can be held back.
struct Pooled {
    backend: PostgresBackend,
    proxy: Proxy,
    _pooler: PgBouncer,
}

impl Pooled {
    async fn start(server: &Server) -> Self {
        let pooler = PgBouncer::start(server.0.url());
        let proxy = Proxy::in_front_of(pooler.url());
        let backend = PostgresBackend::connect(server.config_of(proxy.url())).await.unwrap();
        backend.inspect(&exclusive("x")[0].key.resource).await.unwrap(); // opens the connection of the next request
        Self { backend, proxy, _pooler: pooler }
    }

    /// Delivers the request that was held back, and waits until the server has carried it out and undone it.
    async fn delivers(&self, server: &Server) {
        const WRITES: &str = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
        let writes = server.number(WRITES);
        self.proxy.heal();
        server.wait_for(&format!("SELECT ({WRITES}) > {writes}"), "t").await;
    }
}

async fn is_granted(client: &PostgresBackend, claims: &[Claim]) {
    let answer = client.acquire(claims).await.remove(0);
    assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
}
