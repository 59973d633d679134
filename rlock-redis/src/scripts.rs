//! The Lua scripts, and calls of them.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::try_join_all;
use rlock_core::LeaseId;

use crate::conn::Conn;
use crate::error::CallError;
use crate::wire::{Args, Reply};

/// A script, with one text for servers that support script flags and one for other servers.
pub(crate) struct Script {
    flagged: Text,
    plain: Text,
}

struct Text {
    source: &'static str,
    /// The server's name of the script: a hash of the text, the same on every server.
    digest: OnceLock<String>,
}

/// Script flags. A server that supports them runs such a script on no replica, and lets it write while memory is full
/// only with `allow-oom`.
macro_rules! flags {
    (takes_memory) => {
        "#!lua\n"
    };
    (always_runs) => {
        "#!lua flags=allow-oom\n"
    };
}

macro_rules! script {
    ($memory:ident: $($file:literal)*) => {
        Script {
            flagged: Text::new(concat!(flags!($memory), $(include_str!(concat!("scripts/", $file))),*)),
            plain: Text::new(concat!($(include_str!(concat!("scripts/", $file))),*)),
        }
    };
}

pub(crate) static ACQUIRE: Script = script!(takes_memory:
    "prelude.lua" "with_sets.lua" "in_time.lua" "acquire.lua" "resource.lua" "library.lua" "acquire_among.lua");
pub(crate) static EXTEND: Script =
    script!(always_runs: "prelude.lua" "with_sets.lua" "extend.lua" "resource.lua" "library.lua" "extend_among.lua");
pub(crate) static RELEASE: Script =
    script!(always_runs: "prelude.lua" "with_sets.lua" "release.lua" "resource.lua" "library.lua" "release_among.lua");
/// [`RELEASE`] with a deadline.
pub(crate) static GIVE_BACK: Script = script!(always_runs:
    "prelude.lua" "with_sets.lua" "in_time.lua" "release.lua" "resource.lua" "library.lua" "release_among.lua");
pub(crate) static BREAK: Script =
    script!(always_runs: "prelude.lua" "with_sets.lua" "in_time.lua" "resource.lua" "library.lua" "break.lua");
pub(crate) static INSPECT: Script =
    script!(always_runs: "prelude.lua" "with_sets.lua" "resource.lua" "library.lua" "inspect.lua");
pub(crate) static COUNT: Script =
    script!(always_runs: "prelude.lua" "with_sets.lua" "resource.lua" "library.lua" "count.lua");

// The first parts of scripts as scripts of their own. They get the resources without their sets, and leave the entries
// undecided that need a set.
pub(crate) static ACQUIRE_ALONE: Script =
    script!(takes_memory: "prelude.lua" "without_sets.lua" "in_time.lua" "acquire.lua" "undecided.lua");
pub(crate) static EXTEND_ALONE: Script =
    script!(always_runs: "prelude.lua" "without_sets.lua" "extend.lua" "undecided.lua");
pub(crate) static RELEASE_ALONE: Script =
    script!(always_runs: "prelude.lua" "without_sets.lua" "release.lua" "undecided.lua");
pub(crate) static GIVE_BACK_ALONE: Script =
    script!(always_runs: "prelude.lua" "without_sets.lua" "in_time.lua" "release.lua" "undecided.lua");

/// Tests the commands that the others run. It does not need the shared parts.
pub(crate) static RIGHTS: Script = script!(always_runs: "rights.lua");

/// Stores the time since which a server is known in its role. It does not need the shared parts either.
pub(crate) static MARK: Script = script!(always_runs: "mark.lua");

static ALL: [&Script; 13] = [
    &ACQUIRE,
    &ACQUIRE_ALONE,
    &EXTEND,
    &EXTEND_ALONE,
    &RELEASE,
    &RELEASE_ALONE,
    &GIVE_BACK,
    &GIVE_BACK_ALONE,
    &BREAK,
    &INSPECT,
    &COUNT,
    &RIGHTS,
    &MARK,
];

/// Loads all scripts into the server.
pub(crate) async fn load_all(conn: &Conn) -> Result<(), CallError> {
    try_join_all(ALL.iter().map(|script| script.load(conn))).await?;
    Ok(())
}

impl Script {
    /// A script that is complete in one short text.
    pub(crate) const fn of(source: &'static str) -> Self {
        Self { flagged: Text::new(source), plain: Text::new(source) }
    }

    /// Runs the script. `build` adds the number of keys, the keys and the script's arguments; it is called again if the
    /// server has lost the script and gets the whole text. With `asking`, the server is taking over the slot of the
    /// keys.
    pub(crate) async fn call(&self, conn: &Conn, asking: bool, build: impl Fn(&mut Args)) -> Result<Reply, CallError> {
        let send = async |name, args| match asking {
            true => conn.command_asking(name, args).await,
            false => conn.command(name, args).await,
        };
        let text = self.text(conn);
        if text.digest.get().is_none() {
            self.load(conn).await?; // the server has another version than the previous one
        }
        if let Some(digest) = text.digest.get() {
            let mut args = Args::with_capacity(16);
            args.text(digest.as_str());
            build(&mut args);
            match send("EVALSHA", args).await {
                Err(error) if error.is_refusal_with("NOSCRIPT") => {}
                answer => return answer,
            }
        }
        let mut args = Args::with_capacity(16);
        args.fixed(text.source);
        build(&mut args);
        send("EVAL", args).await
    }

    pub(crate) async fn load(&self, conn: &Conn) -> Result<(), CallError> {
        let text = self.text(conn);
        let mut args = Args::with_capacity(2);
        args.fixed("LOAD");
        args.fixed(text.source);
        match conn.command("SCRIPT", args).await? {
            Reply::Text(digest) => {
                text.digest.get_or_init(|| digest);
                Ok(())
            }
            other => Err(CallError::Refused(format!("{other:?} to SCRIPT LOAD"))),
        }
    }

    fn text(&self, conn: &Conn) -> &Text {
        const FLAGS_SINCE: (u64, u64) = (7, 0);
        if conn.version().is_some_and(|version| version >= FLAGS_SINCE) { &self.flagged } else { &self.plain }
    }
}

impl Text {
    const fn new(source: &'static str) -> Self {
        Self { source, digest: OnceLock::new() }
    }
}

/// An id in the form of the scripts.
pub(crate) fn raw(id: LeaseId) -> [u8; 16] {
    id.as_u128().to_be_bytes()
}

/// A duration in the form of the scripts: milliseconds, rounded up.
#[allow(clippy::cast_precision_loss, reason = "TTLs are far below 2^53 ms")]
pub(crate) fn millis(duration: Duration) -> [u8; 8] {
    (duration.as_secs() as f64 * 1e3 + f64::from(duration.subsec_nanos().div_ceil(1_000_000))).to_le_bytes()
}

/// A release in the form of the release script.
pub(crate) fn packed_release(id: LeaseId, rest: Duration) -> Vec<u8> {
    raw(id).into_iter().chain(millis(rest)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::RedisConfig;

    fn commands<'a>(source: &'a str, before: &str) -> BTreeSet<&'a str> {
        source.split(before).skip(1).filter_map(|rest| rest.split('\'').next()).collect()
    }

    #[test]
    fn access_rules_have_every_command_of_the_scripts() {
        let rules: Vec<&str> = RedisConfig::ACL_RULES.split(' ').collect();
        let tried = commands(RIGHTS.plain.source, "try('");
        for script in ALL {
            for command in commands(script.plain.source, "call('") {
                assert!(rules.contains(&format!("+{}", command.to_lowercase()).as_str()), "{command}");
                assert!(tried.contains(command) || command == "PUBLISH", "{command}"); // the inbox tries that one
            }
        }
        assert!(tried.len() > 10, "{tried:?}");
    }
}
