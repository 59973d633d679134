//! Scripts without flags, by a client that cannot read the server's version. Redis 6.2 gets the same scripts.

use std::fmt::Debug;

use rlock_core::{Acquired, Backend as _, BackendError, Extended, Extension, IfBusy, Released, Share};

use crate::support::{Server, claim, free_port, key, ttl};

/// The server runs such a script on a replica too, and refuses only the writes in it.
#[tokio::test]
async fn replica_reports_no_lock_as_gone() {
    const REFUSED_WRITE: &str = "You can't write against a read only replica";
    let server = Server::start();
    // The first answer makes a client leave the replica.
    let extending = server.client_without_flags().await;
    let releasing = server.client_without_flags().await;
    let breaking = server.client_without_flags().await;
    server.run(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    let extension = Extension { key: key("a", 1), ttl: ttl(30_000) };
    is_not_applied(extending.extend(&[extension]).await.remove(0), REFUSED_WRITE);
    is_not_applied(releasing.release(&[key("a", 1).into()]).await.remove(0), REFUSED_WRITE);
    is_not_applied(breaking.break_leases(&key("a", 1).resource).await, REFUSED_WRITE);
}

#[tokio::test]
async fn full_memory_allows_only_releases_of_exclusive_leases() {
    const FULL: &str = "it is out of memory";
    let server = Server::start();
    let client = server.client_without_flags().await;
    let exclusive = |name, id| claim(name, id, Share::EXCLUSIVE, 30_000, IfBusy::Queue);
    let shared = claim("shared", 4, Share::new(1, 2).unwrap(), 30_000, IfBusy::Queue);
    let claims = [exclusive("held", 1), exclusive("held", 2), exclusive("alone", 3), shared];
    let answers = client.acquire(&claims).await;
    let are_held = [0, 2, 3].into_iter().all(|at| matches!(answers[at], Ok(Acquired::Held(_))));
    assert!(are_held && matches!(answers[1], Ok(Acquired::Queued(_))), "{answers:?}");
    let [held, queued, alone, shared] = claims.map(|claim| claim.key);
    server.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    server.run(&["CONFIG", "SET", "maxmemory", "1"]);

    is_not_applied(client.acquire(&[exclusive("new", 5)]).await.remove(0), FULL);
    for key in [&held, &alone, &shared] {
        let extension = Extension { key: key.clone(), ttl: ttl(40_000) };
        is_not_applied(client.extend(&[extension]).await.remove(0), FULL);
    }
    is_not_applied(client.release(&[shared.into()]).await.remove(0), FULL);
    for key in [held, alone] {
        let released = client.release(&[key.into()]).await.remove(0);
        assert!(matches!(released, Ok(Released::Released)), "{released:?}");
    }

    server.run(&["CONFIG", "SET", "maxmemory", "0"]);
    let extended = client.extend(&[Extension { key: queued, ttl: ttl(30_000) }]).await.remove(0);
    assert!(matches!(extended, Ok(Extended::Held(_))), "{extended:?}");
}

fn is_not_applied(answer: Result<impl Debug, BackendError>, reason: &str) {
    let Err(BackendError::NotApplied(failure)) = answer else { panic!("{answer:?}") };
    assert!(failure.to_string().contains(reason), "{failure}");
}
