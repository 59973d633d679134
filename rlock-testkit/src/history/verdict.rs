//! The result of a check.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::violation::Violation;

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    /// The number of events of each kind.
    pub counts: Counts,
    /// The earliest violation that tokens do not protect from, or else the earliest outside [splits](super::What::Split),
    /// or else the earliest.
    pub violation: Option<Violation>,
}

impl Verdict {
    /// The counts, if nothing was wrong.
    ///
    /// # Errors
    ///
    /// The [`violation`](Self::violation).
    pub fn into_result(self) -> Result<Counts, Violation> {
        match self.violation {
            None => Ok(self.counts),
            Some(violation) => Err(violation),
        }
    }
}

/// The number of events of each kind. Its `Display` is a short table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Entries in the history.
    pub entries: u64,
    /// Locks that were granted.
    pub acquisitions: u64,
    /// Attempts that were refused.
    pub refusals: u64,
    /// Attempts without an answer.
    pub unknowns: u64,
    /// Locks that were lost, by [reason](rlock_core::LossReason::as_str).
    pub losses: BTreeMap<&'static str, u64>,
    /// Releases that the store answered.
    pub releases: u64,
    /// Releases with an unknown outcome.
    pub unknown_releases: u64,
    /// Processes that died.
    pub deaths: u64,
    /// Processes that were frozen.
    pub freezes: u64,
    /// Times that the machine did not let a process run.
    pub starvations: u64,
    /// Times that the store went down.
    pub downs: u64,
    /// Times that locks were broken by force.
    pub breaks: u64,
    /// Registers that were opened.
    pub opens: u64,
    /// Registers that were not opened because of their token.
    pub refused_opens: u64,
    /// Values that were written.
    pub writes: u64,
    /// Values that were not written because of their token.
    pub refused_writes: u64,
    /// Grants that made the holds of a resource exceed its capacity.
    pub overlaps: u64,
    /// Grants that were noted, while their lease was alive, after a grant with a greater token that excludes them.
    pub overtaken: u64,
    /// Those of `overlaps` and `overtaken` whose grant was noted in a [split](super::What::Split).
    pub in_splits: u64,
    /// Tokens that were granted twice, or that are smaller than a token noted before their request.
    pub wrong_tokens: u64,
    /// Opens and writes that a register should have refused.
    pub wrong_writes: u64,
    /// Losses that were signalled too late.
    pub late_signals: u64,
    /// Waiters that got no answer.
    pub forgotten: u64,
    /// Losses at or after the deadline, of holders whose process was neither frozen nor starved then, so that their
    /// signal was judged strictly. A loss that the store reports earlier is in time in any case.
    pub judged_signals: u64,
    /// The longest time from a deadline to the signal of the loss. Time in which the process was frozen or starved is
    /// not counted.
    pub worst_signal: Duration,
    /// The longest time in which a resource had waiters but no known holder. Time in which the store was down, or all
    /// these waiters were frozen, is not counted.
    pub worst_takeover: Duration,
}

impl Counts {
    /// The number of violations.
    pub fn violations(&self) -> u64 {
        self.overlaps + self.overtaken + self.wrong_tokens + self.wrong_writes + self.late_signals + self.forgotten
    }

    /// Whether fencing tokens protect from all violations found, because each is an overlap or an overtaken holder.
    pub fn tokens_protect(&self) -> bool {
        self.violations() == self.overlaps + self.overtaken
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let losses: Vec<String> = self.losses.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let losses = if losses.is_empty() { "none".to_owned() } else { losses.join(", ") };
        let Self { acquisitions, refusals, unknowns, releases, unknown_releases, .. } = self;
        let Self { starvations, judged_signals, .. } = self;
        let Self { deaths, freezes, downs, breaks, opens, refused_opens, writes, refused_writes, .. } = self;
        let Self { overlaps, overtaken, wrong_tokens, wrong_writes, late_signals, forgotten, .. } = self;
        let (takeover, signal) = (self.worst_takeover.as_secs_f64() * 1e3, self.worst_signal.as_secs_f64() * 1e3);
        writeln!(f, "asked     {acquisitions} granted, {refusals} refused, {unknowns} unknown")?;
        writeln!(f, "ended     {releases} released, {unknown_releases} release unknown; lost: {losses}")?;
        writeln!(f, "signals   {judged_signals} judged strictly, {signal:.3} ms late at worst")?;
        writeln!(
            f,
            "faults    {deaths} deaths, {freezes} freezes, {downs} times down, {breaks} broken by force, {starvations} starved"
        )?;
        writeln!(f, "register  {opens} opened, {refused_opens} refused; {writes} written, {refused_writes} refused")?;
        writeln!(f, "takeover  {takeover:.3} ms at worst")?;
        write!(f, "wrong     {overlaps} overlaps, {overtaken} overtaken, {wrong_tokens} tokens, ")?;
        write!(f, "{wrong_writes} writes, {late_signals} late signals, {forgotten} forgotten")
    }
}
