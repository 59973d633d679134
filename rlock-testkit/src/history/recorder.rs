//! Records the events of one process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rlock_core::{Clock, Moment};

use super::entry::{Entry, Op, What};
use super::error::HistoryError;
use super::line::line;
use super::read::{read_file, whole_lines};

/// The time since the machine booted, which all its processes share.
pub fn now() -> Duration {
    Clock::boot().now().since(Moment::default())
}

/// Records the events of one process. Clones write to the same place, from any thread.
///
/// In a file, an entry is a line, appended by its own write: a killed process loses no entry. A line that was cut short
/// anyway is skipped by the reader.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    process: u32,
    next: AtomicU64,
    entries: Entries,
}

#[derive(Debug)]
enum Entries {
    Memory(Mutex<Vec<Entry>>),
    File { file: File, path: PathBuf },
}

impl Recorder {
    /// Records `process` in memory, for tasks of this process.
    pub fn in_memory(process: u32) -> Self {
        Self::new(process, 0, Entries::Memory(Mutex::default()))
    }

    /// Records `process` in its own file in `folder`, from which [`History::read`](super::History::read) reads it. If
    /// an earlier process had the same number, its entries stay, and its attempt numbers are not used again.
    ///
    /// # Errors
    ///
    /// [`HistoryError`] if the file cannot be opened, or contains other data.
    pub fn in_folder(folder: &Path, process: u32) -> Result<Self, HistoryError> {
        let path = folder.join(format!("{process}.history"));
        let failed = |source| HistoryError::Io { path: path.clone(), source };
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(failed)?;
        let own = read_file(&path)?.into_iter().filter_map(|entry| entry.what.op()).filter(|op| op.process == process);
        let next = own.map(|op| op.sequence + 1).max().unwrap_or(0);
        drop_torn_line(&file, &path).map_err(failed)?;
        Ok(Self::new(process, next, Entries::File { file, path }))
    }

    fn new(process: u32, next: u64, entries: Entries) -> Self {
        Self(Arc::new(Inner { process, next: AtomicU64::new(next), entries }))
    }

    /// The number of the process.
    pub fn process(&self) -> u32 {
        self.0.process
    }

    /// A new number for one attempt.
    pub fn op(&self) -> Op {
        Op { process: self.0.process, sequence: self.0.next.fetch_add(1, Ordering::Relaxed) }
    }

    /// Notes an event that happens now.
    ///
    /// # Panics
    ///
    /// Panics if the file cannot be written.
    pub fn note(&self, what: What) {
        self.note_at(now(), what);
    }

    /// Notes an event at an earlier instant. A holder takes [`now`], checks its guard, and then notes
    /// [`What::Believed`] with that instant. So a stop between the check and the note does not make the note claim too
    /// much.
    ///
    /// # Panics
    ///
    /// Panics if the file cannot be written.
    pub fn note_at(&self, at: Duration, what: What) {
        let entry = Entry { at, what };
        match &self.0.entries {
            Entries::Memory(entries) => entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry),
            Entries::File { file, path } => {
                let mut file = file;
                let written = file.write_all(line(&entry).as_bytes());
                written.unwrap_or_else(|error| panic!("cannot write to {}: {error}", path.display()));
            }
        }
    }

    /// All entries so far, in the order in which they were noted.
    ///
    /// # Errors
    ///
    /// [`HistoryError`] if the file cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, HistoryError> {
        match &self.0.entries {
            Entries::Memory(entries) => Ok(entries.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            Entries::File { path, .. } => read_file(path),
        }
    }
}

/// Removes a last line that was cut short, so that the next entry does not become the rest of it.
fn drop_torn_line(file: &File, path: &Path) -> io::Result<()> {
    let text = std::fs::read(path)?;
    let whole = whole_lines(&text);
    if whole.len() < text.len() { file.set_len(whole.len() as u64) } else { Ok(()) }
}
