//! The data on a connection: arguments, and the server's replies.

use bytes::BytesMut;
use fred::types::{Resp3Frame, Value};

use crate::error::CallError;

/// The arguments of a command.
#[derive(Debug, Default)]
pub(crate) struct Args(pub(crate) Vec<Value>);

impl Args {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn text(&mut self, text: impl Into<String>) {
        self.0.push(Value::from(text.into()));
    }

    pub(crate) fn bytes(&mut self, bytes: Vec<u8>) {
        self.0.push(Value::Bytes(bytes.into()));
    }

    /// Adds the contents of a buffer, and empties it. Arguments from one buffer share its memory.
    pub(crate) fn piece(&mut self, buffer: &mut BytesMut) {
        self.0.push(Value::Bytes(buffer.split().freeze()));
    }

    pub(crate) fn reserve(&mut self, more: usize) {
        self.0.reserve(more);
    }

    pub(crate) fn fixed(&mut self, text: &'static str) {
        self.0.push(Value::from_static_str(text));
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.text(number.to_string());
    }
}

/// A server's answer, reduced to the needed types.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Number(i64),
    Text(String),
    /// A string that is not UTF-8.
    Bytes(Vec<u8>),
    /// Also a map: its keys, each followed by its value.
    Array(Vec<Self>),
    Other,
}

impl Reply {
    /// The content of a string.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn from_answer(frame: Resp3Frame) -> Result<Self, CallError> {
        match frame {
            Resp3Frame::SimpleError { data, .. } => Err(CallError::Refused(data.to_string())),
            Resp3Frame::BlobError { data, .. } => Err(CallError::Refused(String::from_utf8_lossy(&data).into_owned())),
            frame => Ok(Self::from_frame(frame)),
        }
    }

    fn from_frame(frame: Resp3Frame) -> Self {
        match frame {
            Resp3Frame::Number { data, .. } => Self::Number(data),
            Resp3Frame::SimpleString { data, .. } | Resp3Frame::BlobString { data, .. } => {
                String::from_utf8(data.into()).map_or_else(|error| Self::Bytes(error.into_bytes()), Self::Text)
            }
            Resp3Frame::VerbatimString { data, .. } => Self::Text(String::from_utf8_lossy(&data).into_owned()),
            Resp3Frame::Array { data, .. } => Self::Array(data.into_iter().map(Self::from_frame).collect()),
            Resp3Frame::Map { data, .. } => {
                let pairs = data.into_iter().flat_map(|(key, value)| [key, value]);
                Self::Array(pairs.map(Self::from_frame).collect())
            }
            _ => Self::Other,
        }
    }
}

/// The hash slot of a key.
pub(crate) fn slot(key: &str) -> u16 {
    fred::util::redis_keyslot(key.as_bytes())
}
