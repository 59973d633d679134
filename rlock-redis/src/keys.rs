//! The keys of resources in Redis.

use percent_encoding::percent_decode_str;
use rlock_core::{Namespace, ResourceName};

/// The common prefix of all keys.
const ROOT: &str = "rlock:";

/// The keys of one namespace.
///
/// A resource is `rlock:{namespace:name}`, and what belongs to it has a suffix behind that. The braces make it
/// one hash tag, so that all keys of a resource live in one slot. What would end the tag or look like a separator
/// is percent-encoded: two resources never share a key, and names stay readable.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// `rlock:{namespace:`
    front: String,
}

impl Keys {
    pub(crate) fn new(namespace: &Namespace) -> Self {
        Self { front: format!("{ROOT}{{{}:", encode(namespace.as_str())) }
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
        format!("{}{}}}", self.front, encode(name.as_str()))
    }

    /// A key of the namespace that no resource has, because names are not empty. Access rules that allow single resources
    /// do not allow it.
    pub(crate) fn unused(&self) -> String {
        format!("{}}}", self.front)
    }

    /// A `SCAN` pattern for the resources whose names begin with `prefix`, and for nothing else of ours.
    pub(crate) fn pattern(&self, prefix: &str) -> String {
        format!("{}*}}", escape_glob(&format!("{}{}", self.front, encode(prefix))))
    }

    /// The name of the resource at `key`; `None` if that is not one of ours.
    pub(crate) fn name(&self, key: &str) -> Option<ResourceName> {
        let encoded = key.strip_prefix(&self.front)?.strip_suffix('}')?;
        let name = ResourceName::new(percent_decode_str(encoded).decode_utf8().ok()?).ok()?;
        (self.resource(&name) == key).then_some(name)
    }
}

/// The channel of the messages about a client's leases. The scripts contain its prefix.
pub(crate) fn inbox_channel(inbox: &str) -> String {
    format!("{ROOT}inbox:{inbox}")
}

/// Encodes character by character, so that the encoded prefix of a name is a prefix of the encoded name.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
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
        let names = ["a", "a:b", "a%3Ab", "{a}", "}:e", "jobs/7 *?[x]-\\", "größe", "%", "a}:q"];
        let mut seen = std::collections::HashSet::new();
        for namespace in ["n", "n:a", "n{"] {
            for name in names {
                let key = keys(namespace).resource(&ResourceName::new(name).unwrap());
                assert_eq!(keys(namespace).name(&key).unwrap().as_str(), name);
                assert_eq!(key.matches(['{', '}']).count(), 2, "{key}");
                assert!(seen.insert(key));
            }
        }
    }

    #[test]
    fn keys_of_others_are_not_taken_for_resources() {
        for key in ["rlock:{n:a}:e", "rlock:{n:a", "rlock:{n:}", "rlock:{m:a}", "rlock:{n:a:b}", "rlock:{n:%61}"] {
            assert_eq!(keys("n").name(key), None, "{key}");
        }
    }

    #[test]
    fn unused_key_is_no_resource() {
        assert_eq!(keys("n").unused(), "rlock:{n:}");
        assert_eq!(keys("n").name(&keys("n").unused()), None);
    }

    #[test]
    fn patterns_mean_what_they_say() {
        assert_eq!(keys("n").pattern("a*[b]:"), "rlock:{n:a\\*\\[b\\]%3A*}");
    }
}
