//! A host whose clock and disk a test controls.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

/// A host for server programs. A test sets its clock and fills its disk, and the programs notice at once. Clones are
/// the same host.
///
/// The programs read the time from libfaketime, which leaves their monotonic clock alone. A limit on the size of files
/// makes the disk full: each write of a file fails, as it does without space. It needs Linux.
#[derive(Debug, Clone)]
pub struct Host {
    folder: Arc<TempDir>,
    /// The value of `LD_PRELOAD`.
    preload: Arc<str>,
    /// The processes of programs that were started here.
    started: Arc<Mutex<BTreeSet<u32>>>,
}

impl Host {
    /// A host with the right time and an empty disk.
    ///
    /// # Panics
    ///
    /// Panics without the program `faketime`. The message says what to install.
    pub fn new() -> Self {
        let library = Command::new("faketime").args(["-f", "+0", "printenv", "LD_PRELOAD"]).output();
        let library = library.ok().filter(|output| output.status.success()).unwrap_or_else(|| {
            panic!("no `faketime` on the PATH, which sets the clock of a server (Debian: apt-get install faketime)")
        });
        let library = String::from_utf8_lossy(&library.stdout);
        // libfaketime does not start beside another allocator such as jemalloc, so the one of libc replaces it.
        let preload = format!("{}:libc.so.6", library.trim()).into();
        let folder = tempfile::tempdir().expect("a temporary folder can be created");
        let host = Self { folder: Arc::new(folder), preload, started: Arc::default() };
        host.set_clock(0);
        host
    }

    /// Sets the clock to the right time plus `ahead` seconds.
    ///
    /// # Panics
    ///
    /// Panics if a temporary file cannot be written.
    pub fn set_clock(&self, ahead: i64) {
        let next = self.folder.path().join("next");
        // A program never reads half of the file.
        fs::write(&next, format!("{ahead:+}")).and_then(|()| fs::rename(&next, self.clock())).expect("a clock is set");
    }

    /// Fills the disk: the programs that run now can write no file.
    ///
    /// # Panics
    ///
    /// Panics if none runs, or if the program `prlimit` fails.
    pub fn fill_disk(&self) {
        assert!(!self.processes().is_empty(), "no program runs on the host");
        self.limit_files("1"); // most files are longer already
    }

    /// Makes room on the disk after [`fill_disk`](Self::fill_disk).
    ///
    /// # Panics
    ///
    /// Panics if the program `prlimit` fails.
    pub fn empty_disk(&self) {
        self.limit_files("unlimited");
    }

    fn limit_files(&self, bytes: &str) {
        for process in self.processes().iter().map(u32::to_string) {
            let limit = Command::new("prlimit").args(["--pid", &process, &format!("--fsize={bytes}:")]).status();
            let limit = limit.unwrap_or_else(|error| panic!("prlimit (Debian: apt-get install util-linux): {error}"));
            assert!(limit.success(), "prlimit on process {process}: {limit}");
        }
    }

    fn processes(&self) -> Vec<u32> {
        // Redis overwrites its environment, but keeps the library. The id of a killed program may be another's by now.
        let has_library = |process: &u32| {
            fs::read_to_string(format!("/proc/{process}/maps")).is_ok_and(|maps| maps.contains("libfaketime"))
        };
        self.started.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().filter(has_library).collect()
    }

    /// A command that runs `program` here.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        // The kernel sends XFSZ for a file that exceeds its limit, but nothing like it for a full disk.
        command.args(["-c", "trap '' XFSZ; exec env \"$@\"", "sh"]).args(self.variables()).arg(program);
        command
    }

    fn variables(&self) -> [String; 4] {
        [
            format!("FAKETIME_TIMESTAMP_FILE={}", self.clock().display()),
            "FAKETIME_NO_CACHE=1".into(),
            "DONT_FAKE_MONOTONIC=1".into(),
            format!("LD_PRELOAD={}", self.preload),
        ]
    }

    fn clock(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    /// Notes the process of a program of [`command`](Self::command).
    pub(super) fn has_started(&self, process: u32) {
        let is_new = self.started.lock().unwrap_or_else(PoisonError::into_inner).insert(process);
        if is_new {
            // libfaketime shares memory under these names, which would outlive a killed process.
            for name in [format!("faketime_shm_{process}"), format!("sem.faketime_sem_{process}")] {
                let _is_unlinked = fs::remove_file(Path::new("/dev/shm").join(name));
            }
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

/// A command that runs `program` on `host`, or on this machine.
pub(super) fn command(host: Option<&Host>, program: &Path) -> Command {
    host.map_or_else(|| Command::new(program), |host| host.command(program))
}
