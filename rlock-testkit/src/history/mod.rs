//! Records histories of many real processes on one store, and checks them.
//!
//! Each process notes its own events in a [`Recorder`]. The process that injects a fault notes the fault: it kills,
//! freezes or wakes a process, or stops the store. Afterwards all notes are read as one [`History`] and checked:
//!
//! ```
//! use std::time::Duration;
//!
//! use rlock_core::Share;
//! use rlock_testkit::history::{History, Recorder, What, now};
//! use rlock_testkit::peer::resource;
//!
//! let recorder = Recorder::in_memory(1);
//! let op = recorder.op();
//! recorder.note(What::Asked { op, resource: resource("job"), share: Share::EXCLUSIVE });
//! // ... the lock is granted ...
//! recorder.note(What::Granted { op, token: 1, until: now() + Duration::from_secs(10) });
//! recorder.note(What::Releasing { op });
//! // ... it is given back ...
//! recorder.note(What::Released { op, known: true });
//! recorder.note(What::End);
//!
//! let history = History::new(recorder.entries()?)?;
//! let counts = history.check(Duration::from_millis(100)).into_result()?;
//! assert_eq!(counts.acquisitions, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is judged
//!
//! - **Exclusion.** The weights of the holds of a resource never exceed its capacity. A hold begins at
//!   [`Granted`](What::Granted) and ends at the first of [`Releasing`](What::Releasing) and [`Lost`](What::Lost). It is
//!   counted only while the holder certainly believed in it. If its process died or stayed frozen, or its client gave
//!   the lease up, this ends at the last [`Believed`](What::Believed). If the lease was lost otherwise, the process was
//!   frozen after its last check, or the outcome of the release is unknown, this ends at the latest deadline noted,
//!   because a frozen holder checks its guard before it acts. So processes of one host cause no false alarms, and few
//!   violations are missed if holders check every few milliseconds. Grants in a [split](What::Split) that break this are
//!   violations, and have a [count](Counts::in_splits) of their own: tokens protect there, and some stores promise no
//!   more.
//! - **Tokens.** No token is granted twice on a resource. A request that is sent after another grant was noted gets a
//!   greater token. Of two grants that exclude each other, the one noted later has the greater token. Otherwise it was
//!   overtaken: the store made the grant with the greater token while this one was alive.
//! - **Fencing.** A [`Register`] never accepts a token smaller than one that it has seen. Each write replaces the value
//!   that the register had: no update is lost.
//! - **Waiters.** Every request from a process that lives to the [`End`](What::End) is answered.
//! - **Signals.** A holder learns of its loss by its deadline, for every reason of loss. The caller of
//!   [`History::check`] sets how late it may learn. A holder that releases later than that got no signal, unless the
//!   store confirms that the lease was held. Time in which its process was frozen or [starved](What::Starved) is not
//!   counted.
//!
//! # What is not judged
//!
//! - **The order of the queue**: a client cannot know which of two requests reached the store first.
//! - **Refusals**: a lock may be refused although it is free. The conformance suite judges that.
//! - **Unknown outcomes.** An attempt without an answer may have a token and a lease that appear nowhere in the
//!   history. This alone is never a violation.
//! - **Holds that are broken by force** end for the checks when the break [is sent](What::Breaking). The holder of a
//!   broken lease necessarily learns of it later.
//!
//! # Why this is enough
//!
//! To decide whether a concurrent history is linearizable takes exponential time in general (Wing and Gong, *Testing
//! and verifying concurrent objects*, 1993; Lowe, *Testing for linearizability*, 2017). For a lock it is enough to
//! check that intervals do not overlap and that numbers increase, as Jepsen does for locks. This takes the time of a
//! sort. Tests compare this checker with a general one: on histories without expiry, both give the same verdict.

mod asking;
mod breach;
mod check;
mod entry;
mod error;
mod fates;
mod line;
mod read;
mod recorder;
mod register;
mod story;
mod timeline;
mod verdict;
mod violation;

use std::path::Path;
use std::time::Duration;

pub use breach::Breach;
pub use entry::{Entry, Op, What};
pub use error::HistoryError;
pub use recorder::{Recorder, now};
pub use register::{Register, Stale};
use timeline::Timeline;
pub use verdict::{Counts, Verdict};
pub use violation::Violation;

/// The events of many processes, in the order of their instants.
#[derive(Debug, Clone)]
pub struct History(Timeline);

impl History {
    /// Reads what recorders wrote into `folder`. A last line that was cut short by a death is left out.
    ///
    /// # Errors
    ///
    /// [`HistoryError`] if a file cannot be read, or the entries contradict each other.
    pub fn read(folder: &Path) -> Result<Self, HistoryError> {
        Self::new(read::read_folder(folder)?)
    }

    /// Makes a history of these entries, which may come in any order. Entries of the same instant keep their order.
    ///
    /// # Errors
    ///
    /// [`HistoryError`] if the entries contradict each other.
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Result<Self, HistoryError> {
        Timeline::new(entries.into_iter().collect()).map(Self)
    }

    /// The entries, in the order of their instants.
    pub fn entries(&self) -> &[Entry] {
        &self.0.entries
    }

    /// Checks the history, in the time of a sort. `late_allowed` is how long after its deadline a holder may learn of
    /// its loss. It allows for the scheduling of a busy machine. A useful bound is the margin of the TTL, after which
    /// the store may grant the lock again.
    pub fn check(&self, late_allowed: Duration) -> Verdict {
        check::check(&self.0, late_allowed)
    }
}
