//! Notices to waiters: repeated, sent once each, lost, polled, past a pooler, and from another server.

use std::time::Duration;

use futures_util::StreamExt as _;
use rlock_core::{Acquired, Backend as _, Claim, Client, Event, Extended, Extension, IfBusy, LeaseId, Released, Share};
use rlock_postgres::{PostgresBackend, PostgresConfig};
use rlock_testkit::faults::Proxy;
use rlock_testkit::wait::within;

use crate::support::{Endpoint, Server, claim, hold, key, release, ttl};

const SOON: Duration = Duration::from_secs(20);

fn exclusive(name: &str, id: u128) -> Claim {
    claim(name, id, Share::EXCLUSIVE, IfBusy::Queue)
}

/// The answer to the first release may have been lost, and with it the notification.
#[tokio::test]
async fn a_release_sent_again_repeats_its_notification() {
    let server = Server::start().await;
    let (holder, waiter) = (server.client().await, server.client().await);
    let mut events = waiter.events();
    holder.acquire(&[exclusive("x", 1)]).await;
    assert!(matches!(waiter.acquire(&[exclusive("x", 2)]).await[0], Ok(Acquired::Queued(_))));
    release(&holder, "x", 1).await;
    let granted = events.next().await;
    assert!(matches!(granted, Some(Event::Granted { .. })), "{granted:?}");
    assert!(matches!(holder.release(&[key("x", 1).into()]).await[0], Ok(Released::Absent)));
    assert_eq!(events.next().await, granted);
}

/// The release finds an expired lease, and grants its permit to the first waiter; the second waiter gets the permit that
/// is released.
#[tokio::test]
async fn a_release_notifies_each_waiter_once() {
    let server = Server::start().await;
    let pooler = Endpoint::pooled(server.0.url());
    let client = PostgresBackend::connect(server.config_of(pooler.url())).await.unwrap();
    // Postgres delivers equal notifications of a transaction once. A client behind a pooler gets them as rows.
    server.query(
        "CREATE TABLE public.sent (message text); \
         CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO public.sent VALUES (NEW.message); RETURN NEW; END $$; \
         CREATE TRIGGER note BEFORE INSERT ON rlock.mail FOR EACH ROW EXECUTE FUNCTION public.note()",
    );
    let half = |id| claim("x", id, Share::new(1, 2).unwrap(), IfBusy::Queue);
    for id in 1..=2 {
        assert!(matches!(client.acquire(&[half(id)]).await[0], Ok(Acquired::Held(_))));
    }
    for id in 3..=4 {
        assert!(matches!(client.acquire(&[half(id)]).await[0], Ok(Acquired::Queued(_))));
    }
    server.query("UPDATE rlock.locks SET expires = 1"); // the first lease
    release(&client, "x", 2).await;
    let sent = server.query("SELECT left(message, 34) FROM public.sent ORDER BY message");
    let granted = |id| vec![Some(format!("g {}", LeaseId::from_u128(id).to_hex()))];
    assert_eq!(sent, [granted(3), granted(4)]);
}

#[tokio::test]
async fn a_full_notification_queue_fails_no_release() {
    let server = Server::start().await;
    let (holder, waiter) = (server.client().await, server.client().await);
    server.fill_notification_queue();
    let mut events = waiter.events();
    let extension = |name| Extension { key: key(name, 2), ttl: ttl(60_000) };
    for name in ["silent", "notified"] {
        assert!(matches!(holder.acquire(&[exclusive(name, 1)]).await[0], Ok(Acquired::Held(_))));
        assert!(matches!(waiter.acquire(&[exclusive(name, 2)]).await[0], Ok(Acquired::Queued(_))));
    }
    release(&holder, "silent", 1).await;
    // The renewal says it.
    let Ok(Extended::Held(_)) = waiter.extend(&[extension("silent")]).await[0] else { panic!("it was released") };
    server.empty_notification_queue();
    release(&holder, "notified", 1).await;
    let Ok(Extended::Held(grant)) = waiter.extend(&[extension("notified")]).await[0] else { panic!("it was released") };
    let event = within(SOON, "the queue has room", events.next()).await;
    assert_eq!(event, Some(Event::Granted { id: LeaseId::from_u128(2), token: grant.token }), "it is the first event");
}

/// Hands a lock over between two clients. A renewal would report the grant after 40 s.
async fn hand_over(server: &Server, config: PostgresConfig) {
    let ttl = Duration::from_secs(120);
    let connect = async || Client::builder().connect(PostgresBackend::connect(config.clone())).await.unwrap();
    let (holder, waiter) = (connect().await, connect().await);
    let guard = hold(&holder, "x", ttl).await;
    let waiting = tokio::spawn(async move { hold(&waiter, "x", ttl).await });
    server.wait_for("SELECT sum(waiting) FROM rlock.locks", "1").await;
    guard.unlock().await.unwrap();
    within(SOON, "the grant", waiting).await.unwrap().unlock().await.unwrap();
}

/// The server itself is in front, so that statements stay prepared.
#[tokio::test]
async fn waiters_that_do_not_listen_poll() {
    const ARE_PREPARED: &str = "SELECT bool_and(query LIKE '%$1%') FROM pg_stat_activity \
                                WHERE application_name = 'rlock' AND query ~ '^(CALL|WITH)'";
    let server = Server::start().await;
    let config = server.config().without_listening();
    let client = PostgresBackend::connect(config.clone()).await.unwrap();
    assert!(matches!(client.acquire(&[exclusive("y", 1)]).await[0], Ok(Acquired::Held(_))));
    assert_eq!(server.value(ARE_PREPARED), "t");
    hand_over(&server, config).await;
    assert_ne!(server.number("SELECT pg_relation_size('rlock.mail')"), 0, "no grant was in a table");
}

#[tokio::test]
async fn listen_url_leads_notifications_past_a_pooler() {
    let server = Server::start().await;
    let pooler = Endpoint::pooled(server.0.url());
    hand_over(&server, server.config_of(pooler.url()).listen_url(server.0.url()).unwrap()).await;
    assert_eq!(server.number("SELECT pg_relation_size('rlock.mail')"), 0, "a grant was in a table");
}

/// A failover by name: new connections lead to another server, and the old one still serves its sessions.
#[tokio::test]
async fn the_listener_follows_requests_to_another_server() {
    let (old, new) = (Server::start().await, Server::start().await);
    let front = Proxy::in_front_of(old.0.url());
    let waiter = PostgresBackend::connect(old.config_of(front.url())).await.unwrap();
    let mut events = waiter.events();
    front.lead_new_to(new.0.url());
    // The first request uses the session that listens, and the second one opens another.
    let claims = [[exclusive("old", 1)], [exclusive("new", 2)]];
    tokio::join!(waiter.acquire(&claims[0]), waiter.acquire(&claims[1]));
    assert_eq!(new.value("SELECT name FROM rlock.locks"), "new");
    assert_eq!(within(SOON, "the listener checks its session", events.next()).await, Some(Event::Resync));

    let holder = new.client().await;
    assert!(matches!(holder.acquire(&[exclusive("x", 3)]).await[0], Ok(Acquired::Held(_))));
    assert!(matches!(waiter.acquire(&[exclusive("x", 4)]).await[0], Ok(Acquired::Queued(_))));
    release(&holder, "x", 3).await;
    let granted = within(SOON, "the new server notifies", events.next()).await;
    assert!(matches!(granted, Some(Event::Granted { id, .. }) if id == LeaseId::from_u128(4)), "{granted:?}");
}
