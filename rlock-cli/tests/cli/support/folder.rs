//! The files that programs under locks write.

use std::fs;
use std::path::PathBuf;

use nix::unistd::Pid;
use tempfile::TempDir;

use super::process::Process;
use super::wait::until;

/// A folder for the files that programs under locks write.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("the system has a place for temporary files"))
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// A script in which `$D` is this folder.
    pub(crate) fn script(&self, script: &str) -> String {
        format!("D='{}'; {script}", self.0.path().display())
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    /// The content of `file` once it has `lines` lines.
    pub(crate) fn wait_for(&self, file: &str, lines: usize) -> String {
        until(file, || Some(self.read(file)).filter(|text| text.matches('\n').count() >= lines))
    }

    /// The process id in `file`.
    pub(crate) fn wait_for_process(&self, file: &str) -> Process {
        Process::from(Pid::from_raw(self.wait_for(file, 1).trim().parse().expect("a process id")))
    }
}
