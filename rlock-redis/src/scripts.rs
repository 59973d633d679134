//! The Lua scripts, and calling them.

use std::sync::OnceLock;

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

static ALL: [&Script; 6] = [&ACQUIRE, &EXTEND, &RELEASE, &BREAK, &INSPECT, &COUNT];

/// Loads all scripts into the server.
pub(crate) async fn load_all(conn: &Conn) -> Result<(), CallError> {
    for script in ALL {
        script.load(conn).await?;
    }
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
