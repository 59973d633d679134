//! Rules 10 and 11: the list and the inspection of resources, and the data left in the store.

use std::collections::HashMap;
use std::sync::Arc;

use rlock_core::{Claim, Entry, Owner, Ttl};
use tokio::time::sleep;

use crate::Stage;
use crate::locking::{lock, lock_in_background, served, unlock};
use crate::peer::{LONG, Peer, SOON, Shape, absent, claim};

/// A list returns every resource with a live lease whose name has the prefix, on whatever page, and no other.
pub async fn list_by_prefix_and_pages(stage: &Stage) {
    let peer = stage.peer().await;
    let names: Vec<String> = (0..25).map(|number| format!("job/{number}")).collect();
    for name in names.iter().map(String::as_str).chain(["job", "jobs/1", "Job/1", "x"]) {
        peer.hold(&claim(name).weighing(1, 2)).await;
    }
    peer.hold(&claim("job/7").weighing(1, 2)).await;

    let listed = peer.list("job/", 10).await;
    let holders: HashMap<_, _> = listed.iter().map(|entry| (entry.resource.as_str(), entry.holders)).collect();
    let expected = names.iter().map(|name| (name.as_str(), if name == "job/7" { 2 } else { 1 }));
    assert_eq!(holders, expected.collect());
    assert!(listed.iter().all(|entry| entry.waiters == 0));

    assert_eq!(peer.list("job/1", 100).await.len(), 11);
    assert_eq!(peer.list("nothing/", 10).await, []);
    assert_eq!(peer.list("", 3).await.len(), 29);
    assert!(peer.page("job/", 5, None).await.entries.len() < 25, "a page of about 5");
}

/// A cursor of a list with another prefix leads to no name outside of the prefix. A store may refuse it.
pub async fn foreign_cursor_stays_in_the_prefix(stage: &Stage) {
    let peer = stage.peer().await;
    for name in ["a", "b", "c"].iter().flat_map(|prefix| (0..5).map(move |number| format!("{prefix}/{number}"))) {
        peer.hold(&claim(&name)).await;
    }
    for other in ["a/", "c/"] {
        let mut cursor = peer.page(other, 1, None).await.next;
        while let Some(after) = cursor {
            let Some(page) = peer.page_unless_refused("b/", 1, after).await else { break };
            let is_inside = |entry: &Entry| entry.resource.as_str().starts_with("b/");
            assert!(page.entries.iter().all(is_inside), "behind a cursor of {other}: {page:?}");
            cursor = page.next;
        }
    }
}

/// An inspection shows a free resource as free, and a held one with its holders, their weights and remaining time.
pub async fn inspect_free_and_held(stage: &Stage) {
    let (one, other) = (stage.peer().await, stage.peer().await);
    let free = other.inspect("x").await;
    assert!(free.is_free() && free.capacity.is_none() && free.resource.as_str() == "x", "{free:?}");

    let first = one.hold(&labelled(claim("x").weighing(2, 5), "first")).await;
    let second = other.hold(&labelled(claim("x").weighing(3, 5).living(SOON), "second")).await;
    let held = other.inspect("x").await;
    assert_eq!(held.capacity, Some(5));
    let shown: Vec<_> = held.holders.iter().map(|it| (it.owner.label(), it.token, it.weight)).collect();
    assert_eq!(shown, [(Some("first"), first.token, 2), (Some("second"), second.token, 3)]);
    assert_eq!(held.holders[0].owner.process(), std::process::id());
    assert!(held.holders[0].remaining > SOON && held.holders[0].remaining <= stage.kept(LONG), "{held:?}");
    assert!(held.holders[1].remaining <= stage.kept(SOON), "{held:?}");
    assert!(held.holders.iter().all(|holder| holder.held_for < SOON), "{held:?}");
    one.release_all(&[first.key, second.key]).await;
    assert!(one.inspect("x").await.is_free());
}

/// An inspection shows the queue in its order, behind the holder.
pub async fn inspect_free_held_queued(stage: &Stage) {
    let (one, other) = (stage.peer().await, stage.peer().await);
    let holder = one.hold(&labelled(claim("x").weighing(5, 5), "holder")).await;
    for (label, weight) in [("first", 2), ("second", 5), ("third", 1)] {
        other.queue(&labelled(claim("x").weighing(weight, 5).queued(), label)).await;
    }
    let queued = one.inspect("x").await;
    assert_eq!(queued.holders.len(), 1);
    let shown: Vec<_> = queued.queue.iter().map(|it| (it.owner.label(), it.weight)).collect();
    assert_eq!(shown, [(Some("first"), 2), (Some("second"), 5), (Some("third"), 1)]);
    assert!(queued.queue.iter().all(|waiter| waiter.remaining > SOON && waiter.waiting_for < SOON), "{queued:?}");
    let [entry] = &*one.list("", 10).await else { panic!("one resource is in use") };
    assert_eq!((entry.holders, entry.waiters), (1, 3));

    sleep(stage.brisk()).await;
    one.release(&holder.key).await;
    let held_for = one.inspect("x").await.holders[0].held_for;
    assert!(held_for < stage.brisk(), "the time that it waited counts as held: {held_for:?}");
}

/// No output contains the id of a lease, because a client that knows the id can release the lease.
pub async fn inspect_never_shows_the_id(stage: &Stage) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    let held = peer.hold(&claim("x")).await;
    let seen = format!("{:?} {:?}", other.inspect("x").await, other.list("", 10).await);
    let id = held.key.id;
    assert!(seen.contains(&held.token.to_string()), "{seen}");
    for secret in [&id.to_hex()[..16], &id.to_hex()[16..], &id.as_u128().to_string()] {
        assert!(!seen.contains(secret), "{seen}");
    }
}

/// After locks were held, waited for, expired, broken and inspected, the store keeps nothing of them except what keeps
/// tokens increasing.
pub async fn nothing_is_left_behind(stage: &Stage) {
    let (peer, dead) = (stage.peer().await, stage.peer().await);
    let clients = [stage.client().await, stage.client().await];
    for number in 0..5 {
        use_up(&peer, &dead, &format!("job/{number}"), stage).await;
        let name = format!("lock/{number}");
        let guard = lock(&clients[0], &name).await;
        let waiting = lock_in_background(&clients[1], &name);
        unlock(guard).await;
        unlock(served(waiting).await).await;
    }
    stage.keeps_nothing(SOON).await;
}

/// Sends every request that a backend has for a name.
async fn use_up(peer: &Peer, dead: &Peer, name: &str, stage: &Stage) {
    let held = peer.hold(&claim(name)).await;
    assert!(peer.try_claim(&claim(name)).await.is_none());
    if stage.capabilities().queue {
        let waiter = claim(name).queued();
        peer.queue(&waiter).await;
        peer.queue(&claim(name).queued().living(stage.short())).await;
        peer.release(&held.key).await;
        peer.release(&waiter.key).await;
    }
    assert!(peer.break_leases(name).await <= 1);
    assert!(peer.inspect(name).await.is_free());
    peer.extend(&absent(name), LONG).await;
    peer.extend(&absent(name), Ttl::MIN.get()).await;
    peer.release(&absent(name)).await;
    peer.break_leases(name).await;
    dead.hold(&claim(name).living(stage.short())).await;
    peer.sees_free(name).await;
}

fn labelled(claim: Claim, label: &str) -> Claim {
    Claim { owner: Arc::new(Owner::current().with_label(label)), ..claim }
}
