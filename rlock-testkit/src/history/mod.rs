//! Histories of many real processes on one store, and whether they are right.
//!
//! Each process notes what it does in a [`Recorder`]; whoever kills, freezes and wakes processes, or takes the store
//! down, notes that. Afterwards the notes are read as one [`History`] and judged:
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
//! - **Exclusion.** The weights of the holds of a resource never exceed its capacity. A hold lasts from
//!   [`Granted`](What::Granted) to the first of [`Releasing`](What::Releasing) and [`Lost`](What::Lost), but is only
//!   counted for as long as it is sure that the holder believed in it. If its process died, or was frozen for good, or
//!   its client gave it up, that is up to when it [last looked](What::Believed). If it was lost otherwise, or its
//!   process was frozen after it last looked, or the outcome of its release is unknown, that is up to the greatest
//!   deadline noted, for the frozen look before they act. So there are no false alarms from processes of one host, and
//!   little is missed if holders look every few milliseconds.
//! - **Tokens.** No token is given twice on a resource. A lock that is asked for after another one was granted gets a
//!   greater token. So does one that is granted after another one that it cannot be held along with, or else it is
//!   overtaken: the store made the grant of the greater token while this one lived.
//! - **Fencing.** A [`Register`] never takes a token smaller than one that it has seen, and each value is written over
//!   the one that was there: no update is lost.
//! - **Waiters.** Whoever asks, in a process that lives to the [`End`](What::End), is answered.
//! - **Signals.** A holder knows of its loss by its deadline, within what the caller of [`History::check`] allows, whatever
//!   the reason is in the end; who lets go later than that, without the store's word that it was held, was not told. Time in
//!   which its process was frozen, or [starved](What::Starved), is not counted.
//!
//! # What is not judged
//!
//! - **The order of the queue**: from outside, nobody can tell which of two requests reached the store first.
//! - **Refusals**: a lock may be refused though it is free. The suite of [`cases`](crate::cases) judges that.
//! - **Unknown outcomes.** Whoever got no answer, or died before it, may have had a token and a lease that nobody knows
//!   of; that is never a violation by itself.
//! - **Holds that are broken by force** end when the break [is sent](What::Breaking), as far as this is concerned: that
//!   the holder learns of it later is in the nature of force.
//!
//! # Why this is enough
//!
//! Whether a concurrent history is linearizable takes exponential time to find out in general (Wing and Gong, *Testing
//! and verifying concurrent objects*, 1993; Lowe, *Testing for linearizability*, 2017). For a lock it comes down to
//! intervals that must not overlap and numbers that must increase, which is how Jepsen looks at locks too, and takes a
//! sort. Tests hold this checker against a checker of the general kind: on histories without expiry, both say the same.

mod asking;
mod check;
mod entry;
mod fates;
mod line;
mod read;
mod recorder;
mod register;
mod story;
mod verdict;
mod violation;

use std::path::Path;
use std::time::Duration;

use asking::Asking;
pub use entry::{Entry, Op, What};
use fates::Fates;
pub use read::HistoryError;
pub use recorder::{Recorder, now};
pub use register::{Register, Stale};
pub use verdict::{Counts, Verdict};
pub use violation::{Breach, Violation};

/// What many processes did, in the order in which it happened.
#[derive(Debug, Clone)]
pub struct History {
    entries: Vec<Entry>,
    askings: Vec<Asking>,
    fates: Fates,
}

impl History {
    /// The history of what recorders noted in `folder`. A line that was cut short by a death is left out.
    ///
    /// # Errors
    ///
    /// [`HistoryError`] if something cannot be read, or makes no sense.
    pub fn read(folder: &Path) -> Result<Self, HistoryError> {
        Self::new(read::read_folder(folder)?)
    }

    /// The history of these entries, which may come in any order; those of the same instant stay in theirs.
    ///
    /// # Errors
    ///
    /// [`HistoryError`] if they make no sense.
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Result<Self, HistoryError> {
        let mut entries: Vec<Entry> = entries.into_iter().collect();
        entries.sort_by_key(|entry| entry.at);
        let (askings, fates) = (Asking::all(&entries)?, Fates::of(&entries));
        Ok(Self { entries, askings, fates })
    }

    /// The entries, in the order in which they happened.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Judges the history, in the time that sorting takes. A holder whose lease has expired may be told that much
    /// later: the allowance is for the scheduling of a busy machine, and of a TTL where that decides.
    pub fn check(&self, late_allowed: Duration) -> Verdict {
        check::check(self, late_allowed)
    }
}
