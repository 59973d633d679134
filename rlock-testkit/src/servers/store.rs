//! What the kit has to know of a store to start servers of it.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// How servers of a store are started; a value says how one of them is.
#[cfg_attr(not(feature = "containers"), expect(dead_code, reason = "a part is about containers"))]
pub(super) trait Store: fmt::Debug + Clone + Send + Sync + 'static {
    /// The store, as people call it.
    const NAME: &'static str;
    /// The store in the names of variables: `RLOCK_TEST_{}_URL`, `RLOCK_TEST_{}_IMAGE`.
    const VARIABLE: &'static str;
    /// What a URL in the variable looks like.
    const URL: &'static str;
    /// The server programs, of which one is enough.
    const PROGRAMS: &'static [&'static str];
    /// Where to look for them after the `PATH`.
    const FOLDERS: &'static [&'static str] = &[];
    /// The package of Debian's that has one of them.
    const PACKAGE: &'static str;
    /// The official image.
    const IMAGE: &'static str;
    /// The program of the image that takes [`arguments`](Self::arguments), if the image would not lead them to it.
    const ENTRYPOINT: Option<&'static str> = None;
    /// What the image needs in its environment.
    const ENVIRONMENT: &'static [(&'static str, &'static str)] = &[];
    /// Where the server in a container listens.
    const PORT: u16;

    /// The command that serves 127.0.0.1:`port`, and keeps its data in the folder in which it is run.
    fn command(&self, program: &Path, port: u16) -> Command;

    /// The arguments of a container, with which it serves [`PORT`](Self::PORT) to everybody.
    fn arguments(&self) -> Vec<String>;

    /// The URL of the server at 127.0.0.1:`port`.
    fn url(&self, port: u16) -> String;

    /// Whether the server at `url` serves clients. If it is a program, it has to be the one whose process id is
    /// `process`: on a port that was free a moment ago, somebody else's server may be listening by now.
    fn is_ready(&self, url: &str, process: Option<u32>) -> bool;
}
