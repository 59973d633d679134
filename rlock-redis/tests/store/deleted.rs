//! Keys that an operator deletes, or that the server evicts: locks may be lost, but no resource stays taken.

use std::slice;
use std::time::Duration;

use crate::support::{Server, claim, key, ttl};
use rlock_core::{Acquired, Backend as _, Extended, Extension, IfBusy, Released, Share};
use rlock_redis::RedisBackend;
use tokio::time::sleep;

const LONG: u64 = 30_000;

/// One request, on the lease with this number.
#[derive(Debug, Clone, Copy)]
enum LeaseRequest {
    Claim(u128, u32),
    Release(u128),
    Extend(u128),
}

use LeaseRequest::{Claim, Extend, Release};

const CAPACITY: u32 = 3;
/// These fill the resource with one holder or several, add waiters, and cause a grant.
const STORIES: [&[LeaseRequest]; 3] = [
    &[Claim(1, 3), Claim(2, 3), Claim(3, 1), Extend(2), Release(1), Extend(3)],
    &[Claim(1, 1), Claim(2, 2), Claim(3, 1), Claim(4, 3), Release(2), Extend(1)],
    &[Claim(1, 2), Claim(2, 3), Claim(3, 2), Release(2), Release(1), Extend(3)],
];

async fn send(client: &RedisBackend, request: LeaseRequest) {
    match request {
        Claim(id, weight) => {
            let claim = claim("a", id, Share::new(weight, CAPACITY).unwrap(), LONG, IfBusy::Queue);
            client.acquire(&[claim]).await.remove(0).unwrap();
        }
        Release(id) => drop(client.release(&[key("a", id).into()]).await.remove(0).unwrap()),
        Extend(id) => drop(extend(client, id).await),
    }
}

async fn extend(client: &RedisBackend, id: u128) -> Extended {
    client.extend(&[Extension { key: key("a", id), ttl: ttl(LONG) }]).await.remove(0).unwrap()
}

#[tokio::test]
async fn resource_survives_any_deletion_at_any_point() {
    let server = Server::start();
    let subsets: [&[&str]; 3] = [&["rlock:2:{n:0}:a"], &["rlock:2:{n:0}#a"], &["rlock:2:{n:0}:a", "rlock:2:{n:0}#a"]];
    for story in STORIES {
        for point in 1..=story.len() {
            for subset in subsets {
                let context = format!("{story:?}, {subset:?} deleted after {point}");
                let client = server.client_in("n").await;
                for &next in &story[..point] {
                    send(&client, next).await;
                }
                server.run(&[&["DEL"], subset].concat());
                for &next in &story[point..] {
                    send(&client, next).await;
                }
                // Each remaining lease gets its turn in the end.
                for id in 1..=4 {
                    if let Extended::Held(_) = extend(&client, id).await {
                        send(&client, Release(id)).await;
                    }
                }
                for id in 1..=4 {
                    match extend(&client, id).await {
                        Extended::Held(_) => send(&client, Release(id)).await,
                        Extended::Gone { .. } => {}
                        queued => panic!("{id} waits without a holder: {queued:?}; {context}"),
                    }
                }
                let whole = claim("a", 9, Share::new(CAPACITY, CAPACITY).unwrap(), LONG, IfBusy::Refuse);
                let answer = client.acquire(slice::from_ref(&whole)).await.remove(0);
                assert!(matches!(answer, Ok(Acquired::Held(_))), "{answer:?}; {context}");
                let answer = client.release(&[whole.key.into()]).await.remove(0);
                assert!(matches!(answer, Ok(Released::Released)), "{answer:?}; {context}");
                assert_eq!(server.run(&["KEYS", "*"]), ["rlock:2:{n:0}:a"], "{context}");
                assert_eq!(server.run(&["STRLEN", "rlock:2:{n:0}:a"]), ["16"], "{context}");
                server.run(&["FLUSHALL"]);
            }
        }
    }
}

/// A holder's key is deleted, and its waiters die: later waiters are served, in any order of their requests.
#[tokio::test]
async fn waiters_are_served_after_their_resource_was_deleted() {
    for knows_of_waiters in [true, false] {
        let server = Server::start();
        let (before, client) = (server.client_in("n").await, server.client_in("n").await);
        let client = if knows_of_waiters { &before } else { &client };
        let claims =
            [(1, LONG), (2, 300), (3, 300)].map(|(id, ttl)| claim("a", id, Share::EXCLUSIVE, ttl, IfBusy::Queue));
        before.acquire(&claims).await;
        server.run(&["DEL", "rlock:2:{n:0}:a"]);
        for id in [4, 5] {
            let claim = claim("a", id, Share::EXCLUSIVE, LONG, IfBusy::Queue);
            client.acquire(&[claim]).await.remove(0).unwrap();
        }
        sleep(Duration::from_millis(400)).await;
        assert!(matches!(client.release(&[key("a", 4).into()]).await[0], Ok(Released::Released)));
        assert!(matches!(extend(client, 5).await, Extended::Held(_)), "knows of waiters: {knows_of_waiters}");
    }
}

/// The string still says that there is a set.
#[tokio::test]
async fn queue_after_a_deleted_one_expires() {
    let server = Server::start();
    let client = server.client_in("n").await;
    let claims = [1, 2, 3].map(|id| claim("a", id, Share::EXCLUSIVE, LONG, IfBusy::Queue));
    client.acquire(&claims[..2]).await;
    server.run(&["DEL", "rlock:2:{n:0}#a"]);
    let answer = client.acquire(&claims[2..]).await.remove(0);
    assert!(matches!(&answer, Ok(Acquired::Queued(place)) if place.ahead == 0), "{answer:?}");
    let expires: i64 = server.run(&["PTTL", "rlock:2:{n:0}#a"])[0].parse().unwrap();
    assert!(expires > 0, "{expires}");
}
