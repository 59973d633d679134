//! The Lua scripts, and calling them.

use std::sync::OnceLock;

use futures_util::future::try_join_all;

use crate::conn::{Args, Conn, Reply};
use crate::error::CallError;

/// A script: the texts that all share, and its own.
pub(crate) struct Script {
    source: &'static str,
    /// What the server calls the script: a hash of the text, the same on every server.
    digest: OnceLock<String>,
}

macro_rules! script {
    ($file:literal) => {
        Script {
            source: concat!(
                include_str!("scripts/prelude.lua"),
                include_str!("scripts/library.lua"),
                include_str!(concat!("scripts/", $file))
            ),
            digest: OnceLock::new(),
        }
    };
}

pub(crate) static ACQUIRE: Script = script!("acquire.lua");
pub(crate) static EXTEND: Script = script!("extend.lua");
pub(crate) static RELEASE: Script = script!("release.lua");
pub(crate) static BREAK: Script = script!("break.lua");
pub(crate) static INSPECT: Script = script!("inspect.lua");
pub(crate) static COUNT: Script = script!("count.lua");

/// Tries the commands that the others run. It is complete without what the others share.
pub(crate) static RIGHTS: Script = Script { source: include_str!("scripts/rights.lua"), digest: OnceLock::new() };

static ALL: [&Script; 7] = [&ACQUIRE, &EXTEND, &RELEASE, &BREAK, &INSPECT, &COUNT, &RIGHTS];

/// Loads all scripts into the server.
pub(crate) async fn load_all(conn: &Conn) -> Result<(), CallError> {
    try_join_all(ALL.iter().map(|script| script.load(conn))).await?;
    Ok(())
}

impl Script {
    /// Runs the script. `build` adds to the arguments the number of keys, the keys and the script's arguments; it
    /// is called again if the server has lost the script, and is sent the whole text.
    pub(crate) async fn call(&self, conn: &Conn, build: impl Fn(&mut Args)) -> Result<Reply, CallError> {
        if let Some(digest) = self.digest.get() {
            let mut args = Args::with_capacity(16);
            args.text(digest.as_str());
            build(&mut args);
            match conn.command("EVALSHA", args).await {
                Err(error) if error.is_refusal_with("NOSCRIPT") => {}
                answer => return answer,
            }
        }
        let mut args = Args::with_capacity(16);
        args.fixed(self.source);
        build(&mut args);
        conn.command("EVAL", args).await
    }

    async fn load(&self, conn: &Conn) -> Result<(), CallError> {
        let mut args = Args::with_capacity(2);
        args.fixed("LOAD");
        args.fixed(self.source);
        match conn.command("SCRIPT", args).await? {
            Reply::Text(digest) => {
                self.digest.get_or_init(|| digest);
                Ok(())
            }
            other => Err(CallError::Refused(format!("{other:?} to SCRIPT LOAD"))),
        }
    }
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
        let tried = commands(RIGHTS.source, "try('");
        for script in ALL {
            for command in
                ["redis.call('", "redis.pcall('"].map(|call| commands(script.source, call)).into_iter().flatten()
            {
                assert!(rules.contains(&format!("+{}", command.to_lowercase()).as_str()), "{command}");
                assert!(tried.contains(command) || command == "PUBLISH", "{command}"); // the inbox tries that one
            }
        }
        assert!(tried.len() > 10, "{tried:?}");
    }
}
