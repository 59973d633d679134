//! The Lua scripts, and calling them.

use std::sync::OnceLock;

use crate::conn::{Args, Conn, Reply};
use crate::error::{CallError, Cause};

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
    /// is called again if the server has lost the script, which does not count as having run it.
    pub(crate) async fn call(&self, conn: &Conn, build: impl Fn(&mut Args)) -> Result<Reply, CallError> {
        let answer = self.call_once(conn, &build).await;
        match answer {
            Err(error) if error.is_refusal_with("NOSCRIPT") => {
                self.load(conn).await.map_err(not_run)?;
                self.call_once(conn, &build).await
            }
            answer => answer,
        }
    }

    async fn call_once(&self, conn: &Conn, build: impl Fn(&mut Args)) -> Result<Reply, CallError> {
        let Some(digest) = self.digest.get() else {
            return Err(CallError::Refused("NOSCRIPT it was never loaded".into()));
        };
        let mut args = Args::with_capacity(16);
        args.text(digest.as_str());
        build(&mut args);
        conn.command("EVALSHA", args).await
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

/// When loading has failed, the script has not been run, whatever became of the loading.
fn not_run(error: CallError) -> CallError {
    match error {
        CallError::Unanswered(cause) => {
            CallError::Unsent(Cause { reason: format!("{}, while loading a script", cause.reason), ..cause })
        }
        other => other,
    }
}
