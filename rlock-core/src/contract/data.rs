//! Data of a lease's holder.

use std::fmt;
use std::sync::Arc;

/// Data that a lease carries for clients that inspect its resource, such as an address or a label. At most 1 KiB.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LeaseData(Arc<[u8]>);

impl LeaseData {
    /// The maximum length, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Takes `data` unchanged.
    ///
    /// # Errors
    ///
    /// [`InvalidData`] for more than [`MAX_LEN`](Self::MAX_LEN) bytes.
    pub fn new(data: impl AsRef<[u8]>) -> Result<Self, InvalidData> {
        let data = data.as_ref();
        if data.len() > Self::MAX_LEN { Err(InvalidData { len: data.len() }) } else { Ok(Self(data.into())) }
    }

    /// The data as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The data as text. Invalid UTF-8 becomes the replacement character.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl fmt::Debug for LeaseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_text(), f)
    }
}

/// The error for more data than a lease can carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a lease cannot carry {len} bytes of data: at most {max}; store them elsewhere and let the lease name the place", max = LeaseData::MAX_LEN)]
pub struct InvalidData {
    /// The length of the refused data, in bytes.
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
