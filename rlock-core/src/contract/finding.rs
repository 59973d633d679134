//! Findings about a store that matter for locks.

use std::fmt;
use std::time::{Duration, SystemTime};

/// Synchronized clocks, and the time that an answer takes, can differ by less than this.
const SKEW: Duration = Duration::from_secs(1);

/// A property of a store that makes it more or less fit for locks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// The subject, in a word or two: `persistence`.
    pub subject: &'static str,
    /// The meaning for locks.
    pub verdict: Verdict,
    /// The finding, and the remedy if there is one.
    pub text: String,
}

/// The meaning of a [`Finding`] for locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Verdict {
    /// The store is as it should be.
    Good,
    /// Worth knowing, or impossible to check.
    Note,
    /// The store can lose locks or grant one twice. An administrator can change that.
    Risk,
}

impl Finding {
    /// A finding that is as it should be.
    pub fn good(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Good, text: text.into() }
    }

    /// A finding that is worth knowing, or that could not be checked.
    pub fn note(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Note, text: text.into() }
    }

    /// A finding of a risk: the store can lose locks or grant one twice. `text` also explains the remedy.
    pub fn risk(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Risk, text: text.into() }
    }

    /// Compares the clock by which a server ends leases (`theirs`) with the clock of this host (`ours`). A difference
    /// of less than a second is good.
    pub fn clock(theirs: SystemTime, ours: SystemTime) -> Self {
        let skew = ours.duration_since(theirs).unwrap_or_else(|error| error.duration());
        if skew < SKEW {
            return Self::good("clock", "the server's agrees with this host's");
        }
        let text = format!(
            "the server's clock is {}s off this host's; that is harmless, but a correction in one step would end \
             locks early or late: use NTP, which corrects it slowly",
            skew.as_secs()
        );
        Self::note("clock", text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skewed_clock_is_noted() {
        let ours = SystemTime::UNIX_EPOCH + Duration::from_secs(3600);
        assert_eq!(Finding::clock(ours + SKEW / 2, ours).verdict, Verdict::Good);
        for theirs in [ours + 90 * SKEW, ours - 90 * SKEW] {
            let finding = Finding::clock(theirs, ours);
            assert!(finding.verdict == Verdict::Note && finding.text.contains("90s off"), "{finding:?}");
        }
    }
}
