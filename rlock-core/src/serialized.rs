//! `Serialize` and `Deserialize` for types that check their value or have a text form, with the feature `serde`.

use std::fmt::Display;
use std::str::FromStr as _;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::contract::{LeaseData, LockHandle, Namespace, Owner, ResourceName, Ttl};
use crate::lease::LossReason;

macro_rules! as_text {
    ($($name:ident by $parse:path),* $(,)?) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }
    )*};
}

as_text! {
    LockHandle by LockHandle::from_str,
    Namespace by Namespace::new,
    ResourceName by ResourceName::new,
}

/// As a duration.
impl Serialize for Ttl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Duration::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// As a sequence of bytes.
impl Serialize for LeaseData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LeaseData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::<u8>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Parts {
            host: String,
            process: u32,
            label: Option<String>,
        }
        let Parts { host, process, label } = Parts::deserialize(deserializer)?;
        Ok(Self::of_parts(&host, process, label.as_deref()))
    }
}

/// As the label of metrics.
impl Serialize for LossReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for LossReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = Self::ALL.into_iter().chain([Self::Released]).find(|reason| reason.as_str() == text);
        known.ok_or_else(|| D::Error::custom(format_args!("{text:?} is no reason for the end of a lock")))
    }
}

/// Serializes an error by its message.
pub(crate) fn text<S: Serializer>(error: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(error)
}

/// Serializes an error by its message, if there is one.
pub(crate) fn optional_text<S: Serializer>(error: &Option<impl Display>, serializer: S) -> Result<S::Ok, S::Error> {
    error.as_ref().map(ToString::to_string).serialize(serializer)
}
