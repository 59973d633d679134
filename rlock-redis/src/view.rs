//! The nodes' views of the slots of a cluster.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::keys::BUCKETS;
use crate::wire::Reply;

/// The cluster as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// The primary of each bucket.
    pub(crate) owners: Vec<Option<Address>>,
    pub(crate) replicas: Vec<Address>,
}

impl View {
    /// Reads the answer of the node at `own` to `CLUSTER SLOTS`. `reached` maps an announced address to the one to
    /// connect to, and `bucket` a slot to its bucket.
    pub(crate) fn read(
        reply: &Reply,
        own: &Address,
        reached: impl Fn(Address) -> Address,
        bucket: impl Fn(u16) -> Option<u16>,
    ) -> Option<Self> {
        let Reply::Array(ranges) = reply else { return None };
        let mut view = Self { owners: vec![None; BUCKETS.into()], replicas: Vec::new() };
        for range in ranges {
            let Reply::Array(range) = range else { return None };
            let [Reply::Number(first), Reply::Number(last), nodes @ ..] = &range[..] else { return None };
            let nodes: Vec<_> =
                nodes.iter().map(|node| Some(address(node, own)?.map(&reached))).collect::<Option<_>>()?;
            let (primary, replicas) = nodes.split_first()?;
            let Some(primary) = primary else { continue };
            for bucket in (u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?).filter_map(&bucket) {
                view.owners[usize::from(bucket)] = Some(primary.clone());
            }
            view.replicas.extend(replicas.iter().flatten().cloned());
        }
        view.replicas.sort();
        view.replicas.dedup();
        Some(view)
    }

    /// Chooses for each bucket the primary that most nodes name. A primary that was cut off from the others may not
    /// know of a failover. `views` are by the addresses of their nodes.
    ///
    /// A primary that no longer serves a slot knows that best: the others name it until they learn of another one.
    pub(crate) fn majority(views: &[(Address, Self)]) -> Self {
        let owner = |bucket: usize| {
            let mut votes = BTreeMap::new();
            for owner in views.iter().filter_map(|(_, view)| view.owners[bucket].as_ref()) {
                *votes.entry(owner).or_insert(0) += 1;
            }
            let (owner, _) = votes.into_iter().max_by_key(|(_, votes)| *votes)?;
            let is_left = views.iter().any(|(node, view)| node == owner && view.owners[bucket].is_none());
            (!is_left).then(|| owner.clone())
        };
        let mut replicas: Vec<_> = views.iter().flat_map(|(_, view)| view.replicas.iter().cloned()).collect();
        replicas.sort();
        replicas.dedup();
        Self { owners: (0..BUCKETS.into()).map(owner).collect(), replicas }
    }
}

/// The address of a node in the answer. The host is empty or null if it is that of the asked node, and `?` if it is
/// unknown.
fn address(node: &Reply, own: &Address) -> Option<Option<Address>> {
    let Reply::Array(node) = node else { return None };
    let [host, Reply::Number(port), ..] = &node[..] else { return None };
    let host = if let Reply::Text(host) = host { host } else { "" };
    let port = u16::try_from(*port).ok()?;
    Some((host != "?").then(|| Address::announced(host, port, own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: i64) -> Reply {
        Reply::Array(vec![Reply::Text(host.into()), Reply::Number(port), Reply::Text("id".into())])
    }

    fn range(first: i64, last: i64, nodes: &[Reply]) -> Reply {
        let numbers = [Reply::Number(first), Reply::Number(last)];
        Reply::Array(numbers.into_iter().chain(nodes.iter().cloned()).collect())
    }

    #[test]
    fn owners_are_read_by_slot() {
        let own = Address::new("seed", 7000);
        let reply = Reply::Array(vec![
            range(0, 99, &[node("10.0.0.1", 7001), node("10.0.0.4", 7004)]),
            range(100, 16_383, &[Reply::Array(vec![Reply::Other, Reply::Number(7002)])]),
        ]);
        let view = View::read(
            &reply,
            &own,
            |announced| announced,
            |slot| match slot {
                7 => Some(0),
                99 => Some(5),
                100 => Some(1),
                _ => None,
            },
        );
        let view = view.unwrap();
        assert_eq!(view.owners[0], Some(Address::new("10.0.0.1", 7001)));
        assert_eq!(view.owners[5], view.owners[0]);
        assert_eq!(view.owners[1], Some(Address::new("seed", 7002)));
        assert_eq!(view.owners[2], None);
        assert_eq!(view.replicas, [Address::new("10.0.0.4", 7004)]);
        assert_eq!(View::read(&Reply::Other, &own, |announced| announced, |_| None), None);
    }

    /// The view of the node at `host` that the node at `owner` has all slots.
    fn view(host: &str, owner: &str) -> (Address, View) {
        let owners = vec![Some(Address::new(owner, 1)); BUCKETS.into()];
        (Address::new(host, 1), View { owners, replicas: Vec::new() })
    }

    #[test]
    fn most_nodes_decide() {
        let mut silent = view("old", "old");
        silent.1.owners[0] = None;
        let majority = View::majority(&[silent, view("new", "new"), view("other", "new")]);
        assert!(majority.owners.iter().all(|owner| *owner == Some(Address::new("new", 1))));
    }

    #[test]
    fn primary_knows_which_slots_it_has_left() {
        let mut owner = view("owner", "owner");
        owner.1.owners[3] = None;
        let majority = View::majority(&[view("a", "owner"), view("b", "owner"), owner]);
        let owned: Vec<bool> = majority.owners.iter().map(Option::is_some).collect();
        assert_eq!(owned, (0..BUCKETS).map(|bucket| bucket != 3).collect::<Vec<_>>());
    }
}
