//! Rule 1 for several locks at once: a set holds all of its locks or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rlock_core::{Client, LockSet};
use tokio::task::JoinSet;

use crate::Stage;
use crate::locking::{lock, long, soon, unlock};
use crate::peer::SOON;
use crate::wait::within;

/// Four sets of the same locks, in four orders, take turns. Never two are held at a time, and none waits without end.
pub async fn opposite_sets_take_turns(stage: &Stage) {
    const ROUNDS: usize = 5;
    async fn take_turns(client: Client, names: [&'static str; 3], inside: Arc<AtomicU64>) {
        let set = set(&client, names);
        for _ in 0..ROUNDS {
            let guard = soon("a set of locks", set.lock_with(long())).await;
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two sets with common locks are held");
            soon("a look", client.inspect(names[0])).await; // as long as a claim of another set takes
            inside.fetch_sub(1, Ordering::SeqCst);
            soon("an unlock", guard.unlock()).await;
        }
    }

    let (one, other) = (stage.client().await, stage.client().await);
    let inside = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for (client, names) in
        [(&one, ["a", "b", "c"]), (&other, ["c", "b", "a"]), (&one, ["b", "c", "a"]), (&other, ["a", "c", "b"])]
    {
        tasks.spawn(take_turns(client.clone(), names, inside.clone()));
    }
    assert_eq!(within(SOON, "all turns", tasks.join_all()).await.len(), 4);
}

/// A try of a set with one busy lock holds none of its locks.
pub async fn busy_set_holds_nothing(stage: &Stage) {
    let (client, other, peer) = (stage.client().await, stage.client().await, stage.peer().await);
    let held = lock(&other, "b").await;
    let set = set(&client, ["a", "b", "c"]);
    assert!(soon("a try", set.try_lock_with(long())).await.is_none(), "a set is held without one of its locks");
    for name in ["a", "c"] {
        peer.sees_free(name).await;
    }
    unlock(held).await;
    let guard = soon("a set of locks", set.lock_with(long())).await;
    for name in ["a", "b", "c"] {
        assert_eq!(peer.inspect(name).await.holders[0].token, guard.token(name).expect("it is in the set"));
    }
    soon("an unlock", guard.unlock()).await;
}

/// The set of the mutexes with these names.
fn set(client: &Client, names: [&str; 3]) -> LockSet {
    names.into_iter().fold(LockSet::new(client), |set, name| set.mutex(name).expect("the names differ"))
}
