//! Large batches. Those of extensions and releases first go without the sets of their resources.

use std::time::Duration;

use rlock_core::{Acquired, Backend as _, BackendError, Claim, Extended, Extension, IfBusy, Release, Released, Share};

use crate::support::{Server, claim, key, scripts_run, ttl};

fn mutex(name: &str, id: u128, if_busy: IfBusy) -> Claim {
    claim(name, id, Share::EXCLUSIVE, 30_000, if_busy)
}

/// Claims of 20 resources.
fn many() -> Vec<Claim> {
    (0..20).map(|number| mutex(&format!("many/{number}"), 1, IfBusy::Queue)).collect()
}

fn extensions(claims: &[Claim]) -> Vec<Extension> {
    claims.iter().map(|claim| Extension { key: claim.key.clone(), ttl: ttl(60_000) }).collect()
}

fn releases(claims: &[Claim]) -> Vec<Release> {
    claims.iter().map(|claim| claim.key.clone().into()).collect()
}

fn is_held_for(answer: &Result<Acquired, BackendError>, secs: u64) -> bool {
    matches!(answer, Ok(Acquired::Held(grant)) if grant.ttl == Duration::from_secs(secs))
}

#[tokio::test]
async fn each_claim_has_terms_of_its_own() {
    let server = Server::start();
    let client = server.client_in("n").await;
    client.acquire(&[mutex("held", 1, IfBusy::Queue)]).await;
    let part = |id, of| claim("shared", id, Share::new(1, of).unwrap(), 50_000, IfBusy::Refuse);
    client.acquire(&[part(1, 2)]).await;
    let mut claims = many();
    claims.extend([mutex("held", 2, IfBusy::Refuse), mutex("held", 3, IfBusy::Queue), part(2, 2), part(3, 3)]);
    let mut answers = client.acquire(&claims).await;
    let rest = answers.split_off(20);
    assert!(answers.iter().all(|answer| is_held_for(answer, 30)), "{answers:?}");
    assert!(matches!(&rest[0], Ok(Acquired::Busy)), "{rest:?}");
    assert!(matches!(&rest[1], Ok(Acquired::Queued(place)) if place.ahead == 0), "{rest:?}");
    assert!(is_held_for(&rest[2], 50), "{rest:?}");
    assert!(matches!(&rest[3], Err(BackendError::CapacityMismatch { asked: 3, actual: 2, .. })), "{rest:?}");
    let again = client.acquire(&many()).await;
    assert!(again.iter().all(|answer| matches!(answer, Ok(Acquired::Held(_)))), "{again:?}");
}

#[tokio::test]
async fn extension_finds_losses_and_waiters() {
    let server = Server::start();
    let (client, other) = (server.client_in("n").await, server.client_in("n").await);
    let mut claims = many();
    client.acquire(&claims).await;
    claims.push(mutex("many/19", 2, IfBusy::Queue));
    client.acquire(&claims[20..]).await;
    other.release(&[key("many/3", 1).into(), key("many/7", 1).into()]).await;
    other.acquire(&[mutex("many/7", 5, IfBusy::Queue)]).await;
    let before = scripts_run(server.resp());
    let answers = client.extend(&extensions(&claims)).await;
    assert_eq!(scripts_run(server.resp()) - before, 2, "the second call has the entries that need their sets");
    for (number, answer) in answers.iter().enumerate() {
        let is_right = match number {
            3 => matches!(answer, Ok(Extended::Gone { taken: false })),
            7 => matches!(answer, Ok(Extended::Gone { taken: true })),
            20 => matches!(answer, Ok(Extended::Queued(place)) if place.ahead == 0),
            _ => matches!(answer, Ok(Extended::Held(grant)) if grant.ttl == Duration::from_secs(60)),
        };
        assert!(is_right, "{number}: {answer:?}");
    }
}

#[tokio::test]
async fn release_finds_losses_and_grants_waiters() {
    let server = Server::start();
    let (client, other) = (server.client_in("n").await, server.client_in("n").await);
    let claims = many();
    client.acquire(&claims).await;
    let waiter = [mutex("many/19", 2, IfBusy::Queue)];
    other.acquire(&waiter).await;
    other.release(&[key("many/3", 1).into()]).await;
    let before = scripts_run(server.resp());
    let answers = client.release(&releases(&claims)).await;
    assert_eq!(scripts_run(server.resp()) - before, 2, "the second call has the entries that need their sets");
    for (number, answer) in answers.iter().enumerate() {
        let expected = if number == 3 { Released::Absent } else { Released::Released };
        assert!(matches!(answer, Ok(released) if *released == expected), "{number}: {answer:?}");
    }
    let extended = other.extend(&extensions(&waiter)).await;
    assert!(matches!(extended[0], Ok(Extended::Held(_))), "{extended:?}");
}

#[tokio::test]
async fn sets_are_sent_while_many_are_needed() {
    let server = Server::start();
    let (client, other) = (server.client_in("n").await, server.client_in("n").await);
    other.acquire(&many()).await;
    let waiters: Vec<_> = many().iter().map(|claim| mutex(claim.key.resource.as_str(), 2, IfBusy::Queue)).collect();
    client.acquire(&waiters).await;
    let mut calls = Vec::new();
    for _ in 0..18 {
        let before = scripts_run(server.resp());
        let extended = client.extend(&extensions(&waiters)).await;
        assert!(extended.iter().all(|answer| matches!(answer, Ok(Extended::Queued(_)))), "{extended:?}");
        calls.push(scripts_run(server.resp()) - before);
    }
    assert_eq!(calls.iter().sum::<u64>(), 20, "two calls, then one each sixteen times, then two: {calls:?}");
}

#[tokio::test]
async fn replica_ends_no_lease_of_a_batch() {
    let server = Server::start();
    let client = server.client_without_flags().await;
    client.acquire(&many()).await;
    client.release(&releases(&many())).await;
    server.run(&["REPLICAOF", "127.0.0.1", "1"]);
    let before = scripts_run(server.resp());
    let extended = client.extend(&extensions(&many())).await;
    assert!(extended.iter().all(|answer| matches!(answer, Err(error) if error.is_transient())), "{extended:?}");
    assert_eq!(scripts_run(server.resp()) - before, 2, "the second call needs a server that accepts writes");
}
