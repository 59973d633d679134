//! Rule 10: names are any text, and no name affects the keys of another.

use std::collections::HashSet;

use rlock_core::{InvalidConfig, InvalidName, Namespace, Released, ResourceName, SimpleLock};

use crate::Stage;
use crate::peer::{Held, Peer, claim};

/// Names in any script are kept unchanged; names that only look the same are different names.
pub async fn unicode(stage: &Stage) {
    are_kept_apart(stage, &["замок/🔒", "é", "e\u{301}", "锁", "ﬁ", "fi", "\u{a0}", " "]).await;
}

/// An empty name is refused before any request is sent; a name that only looks empty is valid.
pub async fn empty_is_refused(stage: &Stage) {
    let refused = SimpleLock::new("", &stage.client().await).err();
    assert!(matches!(refused, Some(InvalidConfig::Name(InvalidName::Empty { .. }))), "{refused:?}");
    are_kept_apart(stage, &[" ", "  ", "\u{3000}", "."]).await;
}

/// The longest names work in full length, and one byte more is refused.
pub async fn longest_and_one_longer(stage: &Stage) {
    const MAX: usize = ResourceName::MAX_LEN;
    let ascii = "x".repeat(MAX);
    let almost = format!("{}y", "x".repeat(MAX - 1));
    let wide = "锁".repeat(MAX / 3) + "xx";
    are_kept_apart(stage, &[&ascii, &almost, &"x".repeat(MAX - 1), &wide]).await;
    let refused = SimpleLock::new("x".repeat(MAX + 1), &stage.client().await).err();
    assert!(matches!(refused, Some(InvalidConfig::Name(InvalidName::TooLong { .. }))), "{refused:?}");
}

/// Names that differ in case are different names.
pub async fn case_matters(stage: &Stage) {
    are_kept_apart(stage, &["job", "Job", "JOB", "straße", "STRASSE", "i", "I", "İ", "ı"]).await;
}

/// No name is mistaken for syntax of the store; control characters are refused.
pub async fn hostile_names(stage: &Stage) {
    const HOSTILE: &str = r#"{} { } {x} {x}y }{ / // /x x/ . .. ../x : :: x: :x ' '' " \ ` % %% %00 %25 %7B%7D _ * ?
        [a-z] ^ $1 $$ ; -- # & | null 0 -1 ~ ');DROP"#;
    let mut names: Vec<&str> = HOSTILE.split_whitespace().collect();
    names.extend([" ", "  ", "x y", " x", "x "]);
    are_kept_apart(stage, &names).await;
    let client = stage.client().await;
    for control in ["\n", "\0", "x\ry", "\u{7f}", "\u{85}"] {
        let refused = SimpleLock::new(control, &client).err();
        assert!(matches!(refused, Some(InvalidConfig::Name(InvalidName::Control { .. }))), "{control:?}: {refused:?}");
    }
}

/// Names with a common prefix or suffix, or with the suffixes that a store may add to its keys, are different names.
pub async fn prefixes_do_not_collide(stage: &Stage) {
    const ALIKE: &str = "a aa a/b a/b/c a:b b a:queue a:q a:x a:e a:waiters a:holders a:token a/queue a.queue a{b {a}b \
        {a}:q a}b a}:q";
    are_kept_apart(stage, &ALIKE.split_whitespace().collect::<Vec<_>>()).await;
}

/// Equal names in two namespaces are two resources for every operation.
pub async fn namespaces_are_apart(stage: &Stage) {
    let own = stage.namespace().to_string();
    let others = [format!("{own}x"), format!("{own}:x"), format!("{own}/x"), format!("{{{own}}}"), format!("{own}%")];
    let mut peers = vec![stage.peer().await];
    for other in others {
        peers.push(stage.peer_in(&Namespace::new(other).expect("a good namespace")).await);
    }
    let mut held = Vec::new();
    for peer in &peers {
        held.push(hold_all(peer, &["x", "x:x"]).await);
    }
    assert_eq!(peers[0].break_leases("x").await, 1);
    for (peer, held) in peers.iter().zip(&held).skip(1) {
        assert_eq!(peer.list("", 10).await.len(), 2);
        for held in held {
            assert_eq!(peer.token(&held.key).await, Some(held.token), "{peer:?} lost a lease to another namespace");
            assert_eq!(peers[0].release(&held.key).await, Released::Absent);
        }
        peer.release_all(&held.iter().map(|held| held.key.clone()).collect::<Vec<_>>()).await;
    }
    assert_eq!(peers[0].list("", 10).await.len(), 1);
}

/// Ten thousand names are held at the same time, and each is listed.
pub async fn ten_thousand_names(stage: &Stage) {
    const NAMES: usize = 10_000;
    let peer = stage.peer().await;
    let claims: Vec<_> = (0..NAMES).map(|number| claim(&format!("job/{number}"))).collect();
    for some in claims.chunks(500) {
        peer.acquire(some).await;
    }
    let listed: HashSet<_> = peer.list("", 1_000).await.into_iter().map(|entry| entry.resource).collect();
    assert_eq!(listed.len(), NAMES);
    let keys: Vec<_> = claims.into_iter().map(|claim| claim.key).collect();
    for some in keys.chunks(500) {
        assert!(peer.release_all(some).await.iter().all(|&answer| answer == Released::Released));
    }
    assert_eq!(peer.list("", 1_000).await, []);
}

/// Holds all names at the same time. Checks that each has its own holder, and that no release affects another name.
async fn are_kept_apart(stage: &Stage, names: &[&str]) {
    let (peer, other) = (stage.peer().await, stage.peer().await);
    let held = hold_all(&peer, names).await;
    let listed: HashSet<_> = other.list("", names.len()).await.into_iter().map(|entry| entry.resource).collect();
    assert_eq!(listed, held.iter().map(|held| held.key.resource.clone()).collect(), "the names that were held");
    for held in &held {
        let snapshot = other.inspect(held.key.resource.as_str()).await;
        assert_eq!(snapshot.resource, held.key.resource);
        let tokens: Vec<_> = snapshot.holders.iter().map(|holder| holder.token).collect();
        assert_eq!(tokens, [held.token], "{:?}", held.key.resource);
    }
    for (released, held) in held.iter().enumerate() {
        assert_eq!(peer.release(&held.key).await, Released::Released, "{:?}", held.key.resource);
        assert_eq!(other.list("", names.len()).await.len(), names.len() - released - 1, "{:?}", held.key.resource);
    }
}

async fn hold_all(peer: &Peer, names: &[&str]) -> Vec<Held> {
    let mut held = Vec::new();
    for name in names {
        held.push(peer.hold(&claim(name)).await);
    }
    held
}
