//! A held lock as text, for another process.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{LeaseId, LeaseKey, ResourceName, Share, Token, Ttl};

/// A held lock that no client keeps alive. [`Guard::into_handle`](crate::Guard::into_handle) makes one, and
/// [`Client::adopt`](crate::Client::adopt) continues the lock in another process or on another host. Without that the
/// lock ends with its TTL.
///
/// Its text form, by `Display` and `FromStr`, has no line break. Everyone who knows the text can release the lock, so
/// `Debug` hides the id of the lease.
#[derive(Clone, PartialEq, Eq)]
pub struct LockHandle {
    pub(crate) key: LeaseKey,
    pub(crate) token: Token,
    pub(crate) share: Share,
    pub(crate) ttl: Ttl,
}

/// The version of the text form.
const VERSION: &str = "rlock1";

impl LockHandle {
    /// The locked resource.
    pub fn resource(&self) -> &ResourceName {
        &self.key.resource
    }

    /// The fencing token.
    pub fn token(&self) -> Token {
        self.token
    }

    /// The TTL that the lock gets when it is adopted.
    pub fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// The same handle with another TTL.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = ttl;
        self
    }
}

impl fmt::Display for LockHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, weight, capacity) = (self.key.id.to_hex(), self.share.weight(), self.share.capacity());
        let millis = self.ttl.get().as_micros().div_ceil(1000);
        write!(f, "{VERSION}:{id}:{}:{weight}:{capacity}:{millis}:{}", self.token, self.key.resource)
    }
}

impl FromStr for LockHandle {
    type Err = InvalidHandle;

    fn from_str(text: &str) -> Result<Self, InvalidHandle> {
        let mut parts = text.splitn(7, ':');
        let mut next = || parts.next().ok_or(InvalidHandle);
        if next()? != VERSION {
            return Err(InvalidHandle);
        }
        let id = LeaseId::from_hex(next()?).ok_or(InvalidHandle)?;
        let token = Token::new(number(next()?)?);
        let share = Share::new(number(next()?)?, number(next()?)?).map_err(|_| InvalidHandle)?;
        let ttl = Ttl::new(Duration::from_millis(number(next()?)?)).map_err(|_| InvalidHandle)?;
        let resource = ResourceName::new(next()?).map_err(|_| InvalidHandle)?;
        Ok(Self { key: LeaseKey { resource, id }, token, share, ttl })
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, InvalidHandle> {
    text.parse().map_err(|_| InvalidHandle)
}

impl fmt::Debug for LockHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockHandle").field("key", &self.key).field("token", &self.token).finish_non_exhaustive()
    }
}

/// The error for text that is not a lock handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no handle of a lock: pass the whole printed text, from \"rlock1:\" to the end of the line")]
pub struct InvalidHandle;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handle_reads_back() {
        let text = "rlock1:0000000000000000000000000000002a:7:1:3:600000:a: büro:7";
        let handle: LockHandle = text.parse().unwrap();
        assert_eq!((handle.resource().as_str(), handle.token().get()), ("a: büro:7", 7));
        assert_eq!(handle.to_string(), text);
        assert!(!format!("{handle:?}").contains("0000002a"), "{handle:?}");
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "rlock1", "rlock2:0000000000000000000000000000002a:7:1:1:600000:a", "rlock1:2a:7:1:1:600000:a"]
        {
            assert_eq!(text.parse::<LockHandle>(), Err(InvalidHandle), "{text}");
        }
        let overweight = "rlock1:0000000000000000000000000000002a:7:2:1:600000:a";
        assert_eq!(overweight.parse::<LockHandle>(), Err(InvalidHandle));
    }
}
