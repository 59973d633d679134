//! Names of resources and of namespaces.

use std::fmt;
use std::sync::Arc;

/// The name of a resource: UTF-8 of 1 to 512 bytes without control characters, case-sensitive.
///
/// The same names are valid on every backend. Backends encode names, so that no name reaches the keys of another,
/// whatever characters it contains.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceName(Arc<str>);

impl ResourceName {
    /// The longest name, in bytes of UTF-8.
    pub const MAX_LEN: usize = 512;

    /// Takes `name` unchanged.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] if it is empty, longer than [`MAX_LEN`](Self::MAX_LEN) bytes or contains a control
    /// character.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidName> {
        check("resource name", name.as_ref(), Self::MAX_LEN).map(Self)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A separate part of a store: equal names in two namespaces are two resources.
///
/// UTF-8 of 1 to 128 bytes without control characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// The longest namespace, in bytes of UTF-8.
    pub const MAX_LEN: usize = 128;

    /// Takes `namespace` unchanged.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] if it is empty, longer than [`MAX_LEN`](Self::MAX_LEN) bytes or contains a control
    /// character.
    pub fn new(namespace: impl AsRef<str>) -> Result<Self, InvalidName> {
        check("namespace", namespace.as_ref(), Self::MAX_LEN).map(Self)
    }

    /// The namespace as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    /// `rlock`.
    fn default() -> Self {
        Self(Arc::from("rlock"))
    }
}

/// An invalid name, and what would work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// The name is empty.
    #[error("a {what} cannot be empty: give it 1 to {max} bytes of UTF-8")]
    Empty {
        /// The kind of name that was refused.
        what: &'static str,
        /// The maximum length, in bytes.
        max: usize,
    },
    /// The name is too long.
    #[error("a {what} of {len} bytes is too long: at most {max} are taken; shorten or hash it")]
    TooLong {
        /// The kind of name that was refused.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The maximum length, in bytes.
        max: usize,
    },
    /// The name contains a control character.
    #[error("a {what} cannot contain the control character {character:?} (byte {at}): remove or escape it")]
    Control {
        /// The kind of name that was refused.
        what: &'static str,
        /// The first control character in the name.
        character: char,
        /// The position of that character, in bytes.
        at: usize,
    },
}

fn check(what: &'static str, name: &str, max: usize) -> Result<Arc<str>, InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty { what, max });
    }
    if name.len() > max {
        return Err(InvalidName::TooLong { what, len: name.len(), max });
    }
    match name.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, character)) => Err(InvalidName::Control { what, character, at }),
        None => Ok(Arc::from(name)),
    }
}

macro_rules! reads_as_str {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}

reads_as_str!(ResourceName, Namespace);
