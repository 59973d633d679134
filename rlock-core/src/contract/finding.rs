//! What a store says of itself that matters for locks.

use std::fmt;
use std::time::{Duration, SystemTime};

/// Less is what clocks that are kept right differ by, and an answer takes.
const SKEW: Duration = Duration::from_secs(1);

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

    /// About the clock by which a server ends leases, which shows `theirs` when this host's shows `ours`. A second does not
    /// matter.
    pub fn clock(theirs: SystemTime, ours: SystemTime) -> Self {
        let skew = ours.duration_since(theirs).unwrap_or_else(|error| error.duration());
        if skew < SKEW {
            return Self::good("clock", "the server's agrees with this host's");
        }
        let text = format!(
            "the server's clock is {}s off this host's; that harms nothing, but setting it right at a stroke would end locks \
             early, or late: let it be kept by NTP",
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
    fn a_clock_that_is_off_is_told_of() {
        let ours = SystemTime::UNIX_EPOCH + Duration::from_secs(3600);
        assert_eq!(Finding::clock(ours + SKEW / 2, ours).verdict, Verdict::Good);
        for theirs in [ours + 90 * SKEW, ours - 90 * SKEW] {
            let finding = Finding::clock(theirs, ours);
            assert!(finding.verdict == Verdict::Note && finding.text.contains("90s off"), "{finding:?}");
        }
    }
}
