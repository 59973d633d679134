//! Requests that the network delivers after their client has given them up.

use rlock_core::{Acquired, Backend as _, BackendError, IfBusy, Released, Share};
use rlock_redis::{RedisBackend, RedisConfig};
use rlock_testkit::faults::Proxy;
use rlock_testkit::servers::{Host, Redis, Reply};
use rlock_testkit::wait::eventually;

use crate::support::{SOON, claim, scripts_run};

/// A client that gives up a request only because its connection is dead.
async fn client(url: &str) -> RedisBackend {
    let config = RedisConfig::from_url(&format!("{url}?namespace=n&restart_grace=0s&timeout=1m")).unwrap();
    RedisBackend::connect(config).await.unwrap()
}

/// The client has claimed again on another connection, and released the lease. Then the first claim arrives.
#[tokio::test]
async fn late_claim_has_no_effect() {
    let server = Redis::start_with(&[]);
    let proxy = Proxy::in_front_of(server.url());
    let client = client(proxy.url()).await;
    let claims = [claim("a", 1, Share::EXCLUSIVE, 60_000, IfBusy::Refuse)];
    proxy.strand();
    let unanswered = client.acquire(&claims).await.remove(0);
    assert!(matches!(unanswered, Err(BackendError::Unknown(_))), "{unanswered:?}");
    let held = client.acquire(&claims).await.remove(0);
    assert!(matches!(held, Ok(Acquired::Held(_))), "{held:?}");
    let released = client.release(&[claims[0].key.clone().into()]).await.remove(0);
    assert!(matches!(released, Ok(Released::Released)), "{released:?}");
    let scripts = scripts_run(server.resp());
    proxy.heal();
    eventually(SOON, "the late claim", async || scripts_run(server.resp()) > scripts).await;
    let length = server.resp().command(&["STRLEN", "rlock:2:{n:0}:a"]);
    assert_eq!(length, Reply::Int(16), "the late claim left a lease");
}

/// The client has given the break up, and another one has the lock. Then the break arrives.
#[tokio::test]
async fn late_break_has_no_effect() {
    let server = Redis::start_with(&[]);
    let proxy = Proxy::in_front_of(server.url());
    let (breaker, holder) = (client(proxy.url()).await, client(server.url()).await);
    let claims = [claim("a", 1, Share::EXCLUSIVE, 60_000, IfBusy::Refuse)];
    proxy.strand();
    let unanswered = breaker.break_leases(&claims[0].key.resource).await;
    assert!(matches!(unanswered, Err(BackendError::Unknown(_))), "{unanswered:?}");
    let held = holder.acquire(&claims).await.remove(0);
    assert!(matches!(held, Ok(Acquired::Held(_))), "{held:?}");
    let scripts = scripts_run(server.resp());
    proxy.heal();
    eventually(SOON, "the late break", async || scripts_run(server.resp()) > scripts).await;
    let released = holder.release(&[claims[0].key.clone().into()]).await.remove(0);
    assert!(matches!(released, Ok(Released::Released)), "the late break ended a lease: {released:?}");
}

/// The first claim after a jump misses its deadline by the server's clock, and the client repeats it.
#[tokio::test]
async fn set_clock_refuses_no_claim() {
    let host = Host::new();
    let server = Redis::start_on(&host, &[]);
    let client = client(server.url()).await;
    for (id, ahead) in [(1, 0), (2, 60), (3, 0), (4, 120)] {
        host.set_clock(ahead);
        let request = claim(&format!("job {id}"), id, Share::EXCLUSIVE, 60_000, IfBusy::Refuse);
        let answer = client.acquire(&[request]).await.remove(0);
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{ahead} s ahead: {answer:?}");
    }
}
