//! Names the keys of a namespace.

use percent_encoding::percent_decode_str;
use rlock_core::{Namespace, ResourceName};

use crate::spot::Spot;

/// The keys of one namespace.
///
/// A lease is at `namespace/name/spot`, and the leases of a resource are the keys that begin with `namespace/name/`. A slash
/// or a percent sign in the name or the namespace is percent-encoded: two resources never share a key, and names stay
/// readable.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// `namespace/`
    front: String,
}

impl Keys {
    pub(crate) fn new(namespace: &Namespace) -> Self {
        Self { front: format!("{}/", encode(namespace.as_str())) }
    }

    /// The prefix of all keys. It is itself the key of the epoch, and not that of a lease.
    pub(crate) fn front(&self) -> &str {
        &self.front
    }

    /// The prefix of the keys of a resource.
    pub(crate) fn line(&self, name: &ResourceName) -> String {
        format!("{}{}/", self.front, encode(name.as_str()))
    }

    pub(crate) fn spot(&self, name: &ResourceName, spot: Spot) -> String {
        format!("{}{spot}", self.line(name))
    }

    /// The prefix of the keys of all resources whose names begin with `prefix`.
    pub(crate) fn starting(&self, prefix: &str) -> String {
        format!("{}{}", self.front, encode(prefix))
    }

    /// The resource and the spot of `key`; `None` if it is not the key of a lease.
    pub(crate) fn read(&self, key: &[u8]) -> Option<(ResourceName, Spot)> {
        let (encoded, path) = std::str::from_utf8(key).ok()?.strip_prefix(&self.front)?.split_once('/')?;
        let resource = ResourceName::new(percent_decode_str(encoded).decode_utf8().ok()?).ok()?;
        let spot = Spot::read(path)?;
        (self.spot(&resource, spot).as_bytes() == key).then_some((resource, spot))
    }
}

/// Encodes character by character, so that the encoded prefix of a name is a prefix of the encoded name.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '%' => encoded.push_str("%25"),
            '/' => encoded.push_str("%2F"),
            _ => encoded.push(character),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use rlock_core::Share;

    use super::*;

    fn keys(namespace: &str) -> Keys {
        Keys::new(&Namespace::new(namespace).unwrap())
    }

    fn name(name: &str) -> ResourceName {
        ResourceName::new(name).unwrap()
    }

    fn spot() -> Spot {
        Spot::new(Share::EXCLUSIVE, 7)
    }

    #[test]
    fn keys_read_back_and_never_collide() {
        let names = ["a", "a/b", "a%2Fb", "/", "jobs/7 *", "größe", "%", "a/00000001/x7"];
        let mut seen = std::collections::HashSet::new();
        for namespace in ["n", "n/a", "n%"] {
            for of in names {
                let key = keys(namespace).spot(&name(of), spot());
                assert_eq!(keys(namespace).read(key.as_bytes()), Some((name(of), spot())));
                assert!(seen.insert(key));
            }
        }
    }

    #[test]
    fn keys_of_others_are_not_taken_for_leases() {
        for key in ["n/", "n/a", "n/a/7", "n//00000001/x7", "m/a/00000001/x7", "n/%61/00000001/x7", "n/a/b/00000001/x7"]
        {
            assert_eq!(keys("n").read(key.as_bytes()), None, "{key}");
        }
    }

    #[test]
    fn prefix_of_a_name_begins_its_keys() {
        let key = keys("n").spot(&name("a/b%c"), spot());
        for prefix in ["", "a", "a/", "a/b%", "a/b%c"] {
            assert!(key.starts_with(&keys("n").starting(prefix)), "{prefix}");
        }
    }
}
