//! The keys of resources in Redis.

use std::sync::Arc;

use bytes::BytesMut;
use rlock_core::{LeaseId, Namespace, ResourceName};

use crate::wire::slot;

/// The common prefix of all keys and channels.
const ROOT: &str = "rlock:";
/// The version of the layout. Versions do not conflict, because their keys differ.
const LAYOUT: &str = "2";
/// The separators between the hash tag and the name, for the string and for the set.
const RESOURCE: &str = ":";
const SET: &str = "#";
/// The number of hash tags over which the resources of a namespace are spread. More tags let more primaries share the
/// work, but cost a batch on a cluster one more call each.
pub(crate) const BUCKETS: u16 = 16;
/// The number of hash slots in each bucket's part.
const SLOTS: u16 = 16_384 / BUCKETS;

/// The keys of one namespace.
///
/// A resource is `rlock:2:{namespace:tag}:name`, and the set beside it is `rlock:2:{namespace:tag}#name`. The braces
/// make a hash tag, so that both are in one slot. Characters of a namespace that would end the tag or look like a
/// separator are percent-encoded: two resources never share a key.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// `rlock:2:{namespace:`
    front: String,
    /// For each bucket `rlock:2:{namespace:tag}`, and its hash slot. The buckets divide the slots evenly: each tag is
    /// the smallest number with a slot in its bucket's part.
    buckets: Arc<[(String, u16)]>,
}

impl Keys {
    pub(crate) fn new(namespace: &Namespace) -> Self {
        let front = format!("{ROOT}{LAYOUT}:{{{}:", encode(namespace.as_str()));
        let mut buckets = vec![None; BUCKETS.into()];
        for tag in 0.. {
            let start = format!("{front}{tag}}}");
            let slot = slot(&start);
            buckets[usize::from(slot / SLOTS)].get_or_insert((start, slot));
            if buckets.iter().all(Option::is_some) {
                break;
            }
        }
        Self { front, buckets: buckets.into_iter().flatten().collect() }
    }

    /// The bucket of a resource.
    pub(crate) fn bucket(name: &ResourceName) -> u16 {
        slot(name.as_str()) % BUCKETS
    }

    /// The hash slot of a bucket.
    pub(crate) fn slot(&self, bucket: u16) -> u16 {
        self.buckets[usize::from(bucket)].1
    }

    /// The bucket of the namespace in a hash slot.
    pub(crate) fn bucket_of_slot(&self, slot: u16) -> Option<u16> {
        Some(slot / SLOTS).filter(|&bucket| self.slot(bucket) == slot)
    }

    /// The common prefix of all keys. It is not a key itself.
    pub(crate) fn front(&self) -> &str {
        &self.front
    }

    /// A `SCAN` pattern for all keys.
    pub(crate) fn everything(&self) -> String {
        format!("{}*", escape_glob(&self.front))
    }

    pub(crate) fn resource(&self, name: &ResourceName) -> String {
        [self.start(Self::bucket(name)), RESOURCE, name.as_str()].concat()
    }

    /// The key of the sorted set of a resource, for leases that share it or wait.
    pub(crate) fn set(&self, name: &ResourceName) -> String {
        [self.start(Self::bucket(name)), SET, name.as_str()].concat()
    }

    /// Appends the keys of resources to `buffer`, then on request those of their sets, and calls `hand_out` after each.
    pub(crate) fn append<'a>(
        &self,
        names: impl Iterator<Item = &'a ResourceName> + Clone,
        with_sets: bool,
        buffer: &mut BytesMut,
        mut hand_out: impl FnMut(&mut BytesMut),
    ) {
        for separator in [Some(RESOURCE), with_sets.then_some(SET)].into_iter().flatten() {
            for name in names.clone() {
                let parts = [self.start(Self::bucket(name)), separator, name.as_str()];
                parts.into_iter().for_each(|part| buffer.extend_from_slice(part.as_bytes()));
                hand_out(buffer);
            }
        }
    }

    /// An upper bound of the length of a key of a resource.
    pub(crate) fn longest(&self, name: &ResourceName) -> usize {
        self.front.len() + name.as_str().len() + 8
    }

    fn start(&self, bucket: u16) -> &str {
        &self.buckets[usize::from(bucket)].0
    }

    /// A key in a bucket that belongs to no resource, because names are not empty. Access rules that allow single
    /// resources do not allow it.
    pub(crate) fn unused(&self, bucket: u16) -> String {
        [self.start(bucket), RESOURCE].concat()
    }

    /// The same for the set.
    pub(crate) fn unused_set(&self, bucket: u16) -> String {
        [self.start(bucket), SET].concat()
    }

    /// The key in a bucket that stores since when clients know the server in its role.
    pub(crate) fn mark(&self, bucket: u16) -> String {
        [self.start(bucket), "!known"].concat()
    }

    /// The key in a bucket that is written before replicas are asked.
    pub(crate) fn confirmed(&self, bucket: u16) -> String {
        [self.start(bucket), "!confirmed"].concat()
    }

    /// A `SCAN` pattern for the resources whose names begin with `prefix`. A few others match as well.
    pub(crate) fn pattern(&self, prefix: &str) -> String {
        format!("{}*}}:{}*", escape_glob(&self.front), escape_glob(prefix))
    }

    /// The name of the resource at `key`; `None` if it is not the key of a resource.
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
    fn buckets_are_spread_over_the_slots() {
        for namespace in ["n", "rlock", "a/b", "%"] {
            let keys = keys(namespace);
            for bucket in 0..BUCKETS {
                let slot_of_bucket = keys.slot(bucket);
                assert_eq!(slot_of_bucket, slot(&keys.mark(bucket)));
                assert_eq!(slot_of_bucket / SLOTS, bucket);
                assert_eq!(keys.bucket_of_slot(slot_of_bucket), Some(bucket));
            }
            assert_eq!((0..16_384).filter_map(|slot| keys.bucket_of_slot(slot)).count(), usize::from(BUCKETS));
        }
    }

    #[test]
    fn sets_follow_the_resources() {
        let (keys, names) = (keys("n"), ["a", "b"].map(|name| ResourceName::new(name).unwrap()));
        let length = names.iter().map(|name| 2 * keys.longest(name)).sum();
        let (mut buffer, mut all) = (BytesMut::with_capacity(length), Vec::new());
        keys.append(names.iter(), true, &mut buffer, |buffer| {
            all.push(String::from_utf8(buffer.split().to_vec()).unwrap())
        });
        let [a, b] = &names;
        assert_eq!(all, [keys.resource(a), keys.resource(b), keys.set(a), keys.set(b)]);
    }

    #[test]
    fn keys_of_others_are_not_taken_for_resources() {
        let key = keys("n").resource(&ResourceName::new("a").unwrap());
        assert!(keys("n").name(&key).is_some());
        let own = key.strip_suffix(":a").unwrap();
        let tag: u32 = own.strip_prefix("rlock:2:{n:").unwrap().strip_suffix('}').unwrap().parse().unwrap();
        for key in [
            format!("{own}#a"),
            format!("{own}:"),
            own.to_owned(),
            format!("rlock:2:{{m:{tag}}}:a"),
            format!("rlock:2:{{n:{}}}:a", tag + 1),
            format!("rlock:2:{{n:0{tag}}}:a"),
            "rlock:{n:a}".to_owned(),
        ] {
            assert_eq!(keys("n").name(&key), None, "{key}");
        }
    }

    #[test]
    fn unused_key_is_no_resource() {
        assert!(keys("n").unused(0).ends_with("}:"));
        assert_eq!(keys("n").name(&keys("n").unused(0)), None);
        assert_eq!(keys("n").name(&keys("n").mark(0)), None);
    }

    #[test]
    fn patterns_mean_what_they_say() {
        assert_eq!(keys("n").pattern("a*[b]:"), "rlock:2:{n:*}:a\\*\\[b\\]:*");
    }
}
