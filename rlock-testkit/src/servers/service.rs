//! What the kit has to know of a server program to run it.

use std::path::Path;
use std::process::Command;
use std::{fmt, io};

/// How servers of a kind are run; a value says how one of them is.
pub(super) trait Service: fmt::Debug + Clone + Send + Sync + 'static {
    /// The kind, as people call it.
    const NAME: &'static str;
    /// The server programs, of which one is enough.
    const PROGRAMS: &'static [&'static str];
    /// Where to look for them after the `PATH`.
    const FOLDERS: &'static [&'static str] = &[];
    /// The package of Debian's that has one of them.
    const PACKAGE: &'static str;

    /// Fills the empty `folder` of a server that is to serve 127.0.0.1:`port`, if the program does not by itself.
    fn prepare(&self, _program: &Path, _folder: &Path, _port: u16) -> io::Result<()> {
        Ok(())
    }

    /// The command that serves 127.0.0.1:`port`, and keeps its data in the folder in which it is run.
    fn command(&self, program: &Path, port: u16) -> Command;

    /// Gives back what a killed program has left behind outside of `folder`; it may be started there again.
    fn tidy(&self, _folder: &Path) {}

    /// The URL of the server at 127.0.0.1:`port`.
    fn url(&self, port: u16) -> String;

    /// Whether the server at `url` serves clients. If it is a program, it has to be the one whose process id is
    /// `process`: on a port that was free a moment ago, somebody else's server may be listening by now.
    fn is_ready(&self, url: &str, process: Option<u32>) -> bool;
}
