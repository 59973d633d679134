//! What a store says of itself that matters for locks.

use std::fmt;

/// Something about a store that makes it fit for locks, or less so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at, in a word or two: `persistence`.
    pub subject: &'static str,
    /// What it means for locks.
    pub verdict: Verdict,
    /// What was found, and where there is something to do, what.
    pub text: String,
}

/// What a [`Finding`] means for locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Worth knowing, or not to be found out.
    Note,
    /// Locks can get lost or be granted twice by it, and somebody can change it.
    Risk,
}

impl Finding {
    /// Something that is as it should be.
    pub fn good(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Good, text: text.into() }
    }

    /// Something worth knowing, or that could not be found out.
    pub fn note(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Note, text: text.into() }
    }

    /// Something by which locks can get lost or be granted twice, and what to do about it.
    pub fn risk(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Risk, text: text.into() }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Risk => "risk",
        })
    }
}
