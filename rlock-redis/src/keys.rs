//! The keys of resources in Redis.

use rlock_core::{LeaseId, Namespace, ResourceName};

use std::collections::HashMap;
use std::sync::Arc;

use crate::wire::slot;

/// The common prefix of all keys and channels.
const ROOT: &str = "rlock:";
/// The version of the layout. Versions never meet, since their keys differ.
const LAYOUT: &str = "2";
/// The number of hash tags over which the resources of a namespace are spread. A batch of a hundred thousand needs no more
/// calls than that on a cluster, and a hash slot can move to another server with a part of them.
pub(crate) const BUCKETS: u16 = 64;

/// The keys of one namespace.
///
/// A resource is `rlock:2:{namespace:bucket}:name`, and the set beside it is `rlock:2:{namespace:bucket}#name`. The braces
/// make a hash tag, so that both live in one slot. What would end the tag or look like a separator in a namespace is
/// percent-encoded: two resources never share a key.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// `rlock:2:{namespace:`
    front: String,
    /// The hash slot of each bucket.
    slots: Arc<[u16]>,
    /// The buckets in each slot that has some.
    buckets: Arc<HashMap<u16, Vec<u16>>>,
}

impl Keys {
    pub(crate) fn new(namespace: &Namespace) -> Self {
        let front = format!("{ROOT}{LAYOUT}:{{{}:", encode(namespace.as_str()));
        let slots: Arc<[u16]> = (0..BUCKETS).map(|bucket| slot(&format!("{front}{bucket}}}"))).collect();
        let mut buckets = HashMap::<u16, Vec<u16>>::new();
        (0..).zip(&*slots).for_each(|(bucket, &slot)| buckets.entry(slot).or_default().push(bucket));
        Self { front, slots, buckets: Arc::new(buckets) }
    }

    /// The bucket of a resource.
    pub(crate) fn bucket(name: &ResourceName) -> u16 {
        slot(name.as_str()) % BUCKETS
    }

    /// The hash slot of a bucket.
    pub(crate) fn slot(&self, bucket: u16) -> u16 {
        self.slots[usize::from(bucket)]
    }

    /// The buckets of the namespace in a hash slot.
    pub(crate) fn bucket_of_slot(&self, slot: u16) -> &[u16] {
        self.buckets.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// The common prefix of all keys. It is no key itself.
    pub(crate) fn front(&self) -> &str {
        &self.front
    }

    /// A `SCAN` pattern for all keys.
    pub(crate) fn everything(&self) -> String {
        format!("{}*", escape_glob(&self.front))
    }

    pub(crate) fn resource(&self, name: &ResourceName) -> String {
        self.key(name, ':')
    }

    /// The sorted set beside the resource, for those who share it or wait.
    pub(crate) fn set(&self, name: &ResourceName) -> String {
        self.key(name, '#')
    }

    fn key(&self, name: &ResourceName, separator: char) -> String {
        format!("{}{}}}{separator}{name}", self.front, Self::bucket(name))
    }

    /// A key in a bucket that no resource has, because names are not empty. Access rules that allow single resources
    /// do not allow it.
    pub(crate) fn unused(&self, bucket: u16) -> String {
        format!("{}{bucket}}}:", self.front)
    }

    /// The same for the set beside it.
    pub(crate) fn unused_set(&self, bucket: u16) -> String {
        format!("{}{bucket}}}#", self.front)
    }

    /// The key in a bucket by which clients remember since when they know the server.
    pub(crate) fn mark(&self, bucket: u16) -> String {
        format!("{}{bucket}}}!known", self.front)
    }

    /// The key in a bucket that is written to when replicas are asked.
    pub(crate) fn confirmed(&self, bucket: u16) -> String {
        format!("{}{bucket}}}!confirmed", self.front)
    }

    /// A `SCAN` pattern for the resources whose names begin with `prefix`. A few others match as well.
    pub(crate) fn pattern(&self, prefix: &str) -> String {
        format!("{}*}}:{}*", escape_glob(&self.front), escape_glob(prefix))
    }

    /// The name of the resource at `key`; `None` if that is not one of ours.
    pub(crate) fn name(&self, key: &str) -> Option<ResourceName> {
        let (_bucket, name) = key.strip_prefix(&self.front)?.split_once("}:")?;
        let name = ResourceName::new(name).ok()?;
        (self.resource(&name) == key).then_some(name)
    }
}

/// The channel of the messages about a client's leases. The scripts contain its prefix.
pub(crate) fn inbox_channel(inbox: LeaseId) -> String {
    format!("{ROOT}inbox:{}", inbox.to_hex())
}

fn encode(namespace: &str) -> String {
    let mut encoded = String::with_capacity(namespace.len());
    for character in namespace.chars() {
        match character {
            '%' => encoded.push_str("%25"),
            ':' => encoded.push_str("%3A"),
            '{' => encoded.push_str("%7B"),
            '}' => encoded.push_str("%7D"),
            _ => encoded.push(character),
        }
    }
    encoded
}

fn escape_glob(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(namespace: &str) -> Keys {
        Keys::new(&Namespace::new(namespace).unwrap())
    }

    #[test]
    fn keys_read_back_and_never_collide() {
        let names = ["a", "a:b", "a%3Ab", "{a}", "}:e", "jobs/7 *?[x]-\\", "größe", "%", "a}:q", ":a", "#a", "}:"];
        let mut seen = std::collections::HashSet::new();
        for namespace in ["n", "n:a", "n{", "n:1}"] {
            for name in names {
                let resource = ResourceName::new(name).unwrap();
                let (key, set) = (keys(namespace).resource(&resource), keys(namespace).set(&resource));
                assert_eq!(keys(namespace).name(&key).unwrap().as_str(), name);
                assert_eq!(keys(namespace).name(&set), None);
                assert_eq!(slot(&key), slot(&set), "{key}");
                assert!(seen.insert(key) && seen.insert(set));
            }
        }
    }

    #[test]
    fn few_hash_tags_are_used() {
        let name = |number| ResourceName::new(format!("job/{number}")).unwrap();
        let tag = |number| keys("n").resource(&name(number)).split_once('}').unwrap().0.to_owned();
        let tags: std::collections::HashSet<String> = (0..10_000).map(tag).collect();
        assert_eq!(tags.len(), usize::from(BUCKETS));
    }

    #[test]
    fn buckets_are_found_by_their_slot() {
        let keys = keys("n");
        for bucket in 0..BUCKETS {
            assert_eq!(keys.slot(bucket), slot(&keys.mark(bucket)));
            assert!(keys.bucket_of_slot(keys.slot(bucket)).contains(&bucket));
        }
    }

    #[test]
    fn keys_of_others_are_not_taken_for_resources() {
        let bucket = slot("a") % BUCKETS;
        let own = format!("rlock:2:{{n:{bucket}}}");
        assert!(keys("n").name(&format!("{own}:a")).is_some());
        for key in [
            format!("{own}#a"),
            format!("{own}:"),
            own,
            format!("rlock:2:{{m:{bucket}}}:a"),
            format!("rlock:2:{{n:{}}}:a", bucket + 1),
            format!("rlock:2:{{n:0{bucket}}}:a"),
            "rlock:{n:a}".to_owned(),
        ] {
            assert_eq!(keys("n").name(&key), None, "{key}");
        }
    }

    #[test]
    fn unused_key_is_no_resource() {
        assert_eq!(keys("n").unused(0), "rlock:2:{n:0}:");
        assert_eq!(keys("n").name(&keys("n").unused(0)), None);
        assert_eq!(keys("n").name(&keys("n").mark(0)), None);
    }

    #[test]
    fn patterns_mean_what_they_say() {
        assert_eq!(keys("n").pattern("a*[b]:"), "rlock:2:{n:*}:a\\*\\[b\\]:*");
    }
}
