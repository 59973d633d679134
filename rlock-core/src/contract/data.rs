//! Data of a lease's holder.

use std::fmt;
use std::sync::Arc;

/// Data that a lease carries for those who look at its resource: an address, a label. At most 1 KiB.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LeaseData(Arc<[u8]>);

impl LeaseData {
    /// The most that a lease carries, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Takes `data` as they are.
    ///
    /// # Errors
    ///
    /// [`InvalidData`] for more than [`MAX_LEN`](Self::MAX_LEN) bytes.
    pub fn new(data: impl AsRef<[u8]>) -> Result<Self, InvalidData> {
        let data = data.as_ref();
        if data.len() > Self::MAX_LEN { Err(InvalidData { len: data.len() }) } else { Ok(Self(data.into())) }
    }

    /// The data as they were given.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The data as text, with the replacement character for what is not UTF-8.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl fmt::Debug for LeaseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_text(), f)
    }
}

/// More data than a lease carries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a lease cannot carry {len} bytes of data: at most {max}; store them elsewhere and let the lease name the place", max = LeaseData::MAX_LEN)]
pub struct InvalidData {
    /// The bytes that were given.
    pub len: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_are_bounded() {
        assert_eq!(LeaseData::new([7; 1024]).unwrap().as_bytes().len(), 1024);
        assert_eq!(LeaseData::new([7; 1025]), Err(InvalidData { len: 1025 }));
    }
}
