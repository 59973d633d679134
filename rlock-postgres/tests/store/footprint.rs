//! The cost of locks on the server: writes, flushes and leftovers.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::StreamExt as _;
use rlock_core::{Acquired, Backend as _, Event, Extended, Extension, IfBusy, Released, Share};
use rlock_postgres::PostgresBackend;

use crate::support::{Endpoint, Server, claim, key, release, ttl};

#[tokio::test]
async fn a_refused_try_writes_nothing() {
    let server = Server::start_with(&["-c", "fsync=off", "-c", "autovacuum=off"]).await;
    let (holder, other) = (server.client().await, server.client().await);
    let three = NonZeroU32::new(3).unwrap();
    let held = [
        claim("mutex", 1, Share::EXCLUSIVE, IfBusy::Refuse),
        claim("semaphore", 2, Share::new(2, 3).unwrap(), IfBusy::Refuse),
    ];
    for claim in held {
        assert!(matches!(holder.acquire(&[claim]).await[0], Ok(Acquired::Held(_))));
    }
    let tries = [
        claim("mutex", 3, Share::EXCLUSIVE, IfBusy::Refuse),
        claim("semaphore", 4, Share::new(2, 3).unwrap(), IfBusy::Refuse),
        claim("semaphore", 5, Share::all_of(three), IfBusy::Refuse),
    ];
    let all_are_refused = async || {
        for answer in other.acquire(&tries).await {
            assert!(matches!(answer, Ok(Acquired::Busy)), "{answer:?}");
        }
        for claim in &tries {
            let answer = other.acquire(std::slice::from_ref(claim)).await.remove(0);
            assert!(matches!(answer, Ok(Acquired::Busy)), "{answer:?}");
        }
    };
    // The first reader of a page notes in it which transactions have ended. With checksums, which version 18 has by
    // default, that note goes into the log.
    all_are_refused().await;
    server.query("CHECKPOINT"); // no write of the background is left
    let before = server.logged();
    for _ in 0..20 {
        all_are_refused().await;
    }
    let written = server.logged() - before;
    assert!(written < 1_000, "{written} bytes of log for 120 tries that were refused");
}

#[tokio::test]
async fn cycle_or_batch_flushes_the_log_once() {
    let server = Server::start_flushing().await;
    let client = server.client().await;
    cycle(&client, 1).await;
    let flushes = async || {
        server.wait_for_statistics(&client).await;
        server.flushes()
    };
    let before = flushes().await;
    for _ in 0..50 {
        cycle(&client, 1).await;
    }
    let alone = flushes().await - before;
    // The other changes are flushed with the next lock, or in the background.
    assert!((48..=75).contains(&alone), "{alone} flushes for 50 cycles");

    let before = flushes().await;
    for _ in 0..10 {
        cycle(&client, 64).await;
    }
    let together = flushes().await - before;
    assert!((8..=35).contains(&together), "{together} flushes for 10 cycles of 64 locks");
}

#[tokio::test]
async fn contended_turn_flushes_the_log_once() {
    const TURNS: u8 = 50;
    let server = Server::start_flushing().await;
    let one_connection = || server.config().connections(1).unwrap();
    let clients = [
        PostgresBackend::connect(one_connection()).await.unwrap(),
        PostgresBackend::connect(one_connection()).await.unwrap(),
    ];
    let mut events = clients.each_ref().map(|client| client.events());
    let queued = |id: u8| claim("x", id.into(), Share::EXCLUSIVE, IfBusy::Queue);
    assert!(matches!(clients[0].acquire(&[queued(0)]).await[0], Ok(Acquired::Held(_))));
    let counts = async || {
        server.wait_for_statistics(&clients[0]).await;
        server.wait_for_statistics(&clients[1]).await;
        let updates = server.number("SELECT sum(n_tup_upd) FROM pg_stat_user_tables WHERE relname = 'locks'");
        (updates, server.flushes())
    };
    let mut before = (0, 0);
    for turn in 0..TURNS + 2 {
        if turn == 2 {
            before = counts().await; // both clients have met contention by now
        }
        let (holder, waiter) = (usize::from(turn % 2), usize::from((turn + 1) % 2));
        let answer = clients[waiter].acquire(&[queued(turn + 1)]).await.remove(0);
        assert!(matches!(answer, Ok(Acquired::Queued(_))), "{answer:?}");
        release(&clients[holder], "x", turn.into()).await;
        let granted = events[waiter].next().await;
        assert!(matches!(granted, Some(Event::Granted { .. })), "{granted:?}");
    }
    let after = counts().await;
    let (updates, flushes) = (after.0 - before.0, after.1 - before.1);
    let two_each = 2 * i64::from(TURNS);
    assert_eq!(updates, two_each);
    let one_each = i64::from(TURNS);
    assert!((one_each - 2..=one_each + 25).contains(&flushes), "{flushes} flushes for {TURNS} turns");
}

#[tokio::test]
async fn nothing_piles_up_over_many_cycles() {
    let server = Server::start().await;
    let client = server.client().await;
    cycle(&client, 10).await;
    for _ in 0..1_000 {
        cycle(&client, 10).await;
    }
    server.wait_for_statistics(&client).await;
    let size = server.number("SELECT pg_relation_size('rlock.locks')");
    assert!(size <= 10 * 8192, "the table has grown to {size} bytes");
    let moved = server.number("SELECT n_tup_upd - n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'locks'");
    let updates = server.number("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'locks'");
    assert!(updates >= 20_000 && moved <= updates / 100, "{moved} of {updates} updates went to other pages");
}

#[tokio::test]
async fn unused_rows_are_swept_and_tokens_kept() {
    let server = Server::start().await;
    let config = server.config().keep_unused(Duration::from_secs(1)).unwrap();
    let client = PostgresBackend::connect(config).await.unwrap();
    let used = claim("used", 1, Share::EXCLUSIVE, IfBusy::Refuse);
    assert!(matches!(client.acquire(&[used]).await[0], Ok(Acquired::Held(_))));
    let unused = claim("unused", 2, Share::EXCLUSIVE, IfBusy::Refuse);
    let Ok(Acquired::Held(before)) = client.acquire(&[unused]).await.remove(0) else { panic!("it is free") };
    release(&client, "unused", 2).await;
    // The token is ahead of the server's clock, as after the clock was set back.
    server.query("UPDATE rlock.locks SET last = last + 500000 WHERE name = 'unused'");
    while server.number("SELECT count(*) FROM rlock.locks") > 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.value("SELECT name FROM rlock.locks"), "used");
    server.query("UPDATE rlock.state SET floor = floor + 3600000000");
    let again = claim("unused", 3, Share::EXCLUSIVE, IfBusy::Refuse);
    let Ok(Acquired::Held(after)) = client.acquire(&[again]).await.remove(0) else { panic!("it is free") };
    assert!(after.token.get() > before.token.get() + 3_600_000_000, "{} after {}", after.token, before.token);
}

/// In the default mode, the server may plan a statement of the procedure again for the values of a call.
#[tokio::test]
async fn one_plan_serves_all_values() {
    let server = Server::start().await;
    let endpoints = [Endpoint::direct(server.0.url()), Endpoint::pooled(server.0.url())];
    server.query(
        "CREATE TABLE public.modes (mode text); \
         CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO public.modes VALUES (current_setting('plan_cache_mode')); RETURN NEW; END $$; \
         CREATE TRIGGER note AFTER INSERT ON rlock.locks FOR EACH ROW EXECUTE FUNCTION public.note()",
    );
    for (id, endpoint) in (1..).zip(&endpoints) {
        let client = PostgresBackend::connect(server.config_of(endpoint.url())).await.unwrap();
        let new = claim(&format!("name {id}"), id, Share::EXCLUSIVE, IfBusy::Refuse);
        let answer = client.acquire(&[new]).await.remove(0);
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
    }
    let modes = server.value("SELECT string_agg(mode, ' ') FROM public.modes");
    assert_eq!(modes, "force_generic_plan force_generic_plan");
}

async fn cycle(client: &PostgresBackend, locks: u128) {
    let claims: Vec<_> =
        (0..locks).map(|id| claim(&format!("name {id}"), id, Share::EXCLUSIVE, IfBusy::Refuse)).collect();
    for answer in client.acquire(&claims).await {
        assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}");
    }
    let keys: Vec<_> = (0..locks).map(|id| key(&format!("name {id}"), id).into()).collect();
    for answer in client.release(&keys).await {
        assert!(matches!(answer, Ok(Released::Released)), "{answer:?}");
    }
}

#[tokio::test]
async fn batched_extensions_are_answered_one_by_one() {
    let server = Server::start().await;
    let client = server.client().await;
    let claims: Vec<_> =
        (0..200).map(|id| claim(&format!("name {id}"), id, Share::EXCLUSIVE, IfBusy::Refuse)).collect();
    client.acquire(&claims).await;
    let extensions: Vec<_> =
        (0..201).map(|id| Extension { key: key(&format!("name {id}"), id), ttl: ttl(60_000) }).collect();
    let answers = client.extend(&extensions).await;
    assert!(answers[..200].iter().all(|answer| matches!(answer, Ok(Extended::Held(_)))));
    assert!(matches!(answers[200], Ok(Extended::Gone { taken: false })), "{:?}", answers[200]);
}
