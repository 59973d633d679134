//! Looking at where the file is.

use std::path::Path;

use rlock_core::{BackendError, Finding};

use crate::SqliteBackend;
use crate::clock::HostClock;
use crate::file;
use crate::file_system;
use crate::request::{Answer, Operation};

/// With less, a disk is soon full.
const LITTLE: u64 = 64;
const MIB: u64 = 1 << 20;

impl SqliteBackend {
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>, BackendError> {
        let version = self.calls.run("examine", vec![Operation::Version], |_, answer| match answer {
            Answer::Version(version) => Some(Ok(version)),
            _ => None,
        });
        let version = version.await.remove(0)?;
        let mut findings =
            vec![Finding::good("version", format!("SQLite {version}, built in")), clock(&HostClock::new())];
        findings.extend(room(self.path()));
        findings.extend(log(self.path()));
        findings.push(Finding::note("reach", "a file is for the processes of one host: others do not see its locks"));
        Ok(findings)
    }
}

fn clock(clock: &HostClock) -> Finding {
    if clock.is_of_boot() {
        return Finding::good("clock", "locks expire by the time since the host was started, which cannot be set");
    }
    let text = "the system does not say when it was started, so locks expire by the wall clock: setting it back keeps the \
                locks of dead holders, and setting it forward ends those of living ones";
    Finding::note("clock", text)
}

/// SQLite starts the log anew after some two megabytes, unless a reader still needs it.
fn log(path: &Path) -> Option<Finding> {
    let length = std::fs::metadata(file::beside(path, "-wal")).ok()?.len() / MIB;
    let text = format!(
        "its log has {length} MiB, because a program has been reading the file in one transaction: `lsof {}` lists those that \
         have it open",
        path.display()
    );
    (length > LITTLE).then(|| Finding::risk("log", text))
}

fn room(path: &Path) -> Option<Finding> {
    let left = file_system::free_space(file::folder(path))? / MIB;
    Some(if left < LITTLE {
        Finding::risk("disk", format!("only {left} MiB are left; on a full disk no lock can be extended: make room"))
    } else {
        Finding::good("disk", format!("{left} MiB are left"))
    })
}
