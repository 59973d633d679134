//! The failure to read a history.

use std::io;
use std::path::PathBuf;

use super::entry::Op;

/// A history that cannot be checked, because it cannot be read or its entries contradict each other.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// A file or folder cannot be read or written.
    #[error("the history {path:?} cannot be read or written: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line cannot be parsed. The last line of a file may be cut short; no other line may.
    #[error("line {number} of the history {path:?} is not an entry: {text:?}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        number: usize,
        /// The text of the line.
        text: String,
    },
    /// Two attempts have the same number.
    #[error("{op} asks twice: each attempt needs its own number, see Recorder::op")]
    AskedTwice {
        /// The attempt.
        op: Op,
    },
    /// An event belongs to an attempt that was never noted as asked.
    #[error("{op} never asked: note What::Asked before the request is sent")]
    NeverAsked {
        /// The attempt.
        op: Op,
    },
    /// One attempt was granted twice.
    #[error("{op} is granted twice: each attempt needs its own number, see Recorder::op")]
    GrantedTwice {
        /// The attempt.
        op: Op,
    },
}
