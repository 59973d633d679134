//! The settings that the kit needs to run a server program.

use std::path::Path;
use std::process::Command;
use std::{fmt, io};

/// A kind of server program; a value holds the settings of one server.
pub(super) trait Service: fmt::Debug + Clone + Send + Sync + 'static {
    /// The name of the kind, for people.
    const NAME: &'static str;
    /// The server programs, of which one is enough.
    const PROGRAMS: &'static [&'static str];
    /// Folders to search after the `PATH`.
    const FOLDERS: &'static [&'static str] = &[];
    /// The Debian package that contains one of the programs.
    const PACKAGE: &'static str;

    /// Whether a server can serve 127.0.0.1:`port`, which is free.
    fn can_use(&self, _port: u16) -> bool {
        true
    }

    /// Fills the empty `folder` of a server that will serve 127.0.0.1:`port`, if the program does not do so itself.
    fn prepare(&self, _program: &Path, _folder: &Path, _port: u16) -> io::Result<()> {
        Ok(())
    }

    /// The command that serves 127.0.0.1:`port`, with its data in its working directory.
    fn command(&self, program: &Path, port: u16) -> Command;

    /// Removes what a killed program has left outside of `folder`. It may be started in `folder` again.
    fn tidy(&self, _folder: &Path) {}

    /// The URL of the server at 127.0.0.1:`port`.
    fn url(&self, port: u16) -> String;

    /// Whether the server at `url` serves clients. For a program, the server must have the process id `process`,
    /// because another server may have taken the port before this one started.
    fn is_ready(&self, url: &str, process: Option<u32>) -> bool;
}
