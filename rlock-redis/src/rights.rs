//! The access rights that a user of the server needs.

use crate::RedisConfig;
use crate::conn::{Conn, Reply};
use crate::error::{CallError, code_of};
use crate::keys::Keys;
use crate::scripts;

macro_rules! acl_rules {
    () => {
        "~rlock:* resetchannels &rlock:inbox:* +select +info +ping +time +scan +eval +evalsha +script|load +subscribe \
         +publish +hget +hmget +hset +hdel +zadd +zcard +zrange +zrangebyscore +zrank +zrem +zscore +pexpireat +del"
    };
}

impl RedisConfig {
    /// The rules of Redis's `ACL SETUSER` for a user of rlock:
    ///
    /// ```text
    #[doc = concat!("ACL SETUSER locks on >PASSWORD ", acl_rules!())]
    /// ```
    ///
    /// They hold from Redis 6.2 on and for Valkey. [`RedisBackend::connect`](crate::RedisBackend::connect) tries each right
    /// and refuses a user who lacks one, with these rules in the error. Two of them can be narrower:
    ///
    /// - For one namespace, `~rlock:{NAMESPACE:*` is enough, with the characters `%`, `:`, `{` and `}` of the namespace
    ///   percent-encoded. Rules for single resources are refused.
    /// - Without a [`restart_grace`](Self::restart_grace), `+info` can be left out.
    ///   [`examine`](rlock_core::Backend::examine) looks at fewer settings then.
    pub const ACL_RULES: &str = acl_rules!();
}

/// Names the rights to give to the user.
pub(crate) fn remedy() -> String {
    format!("give the user all rights that rlock needs, by ACL SETUSER NAME {}", RedisConfig::ACL_RULES)
}

/// The script's name for the keys among the commands.
const KEY: &str = "key";

/// Tries the rights that connecting does not use, so that a missing one is reported now and not at the first wait.
pub(crate) async fn try_all(conn: &Conn, keys: &Keys) -> Result<(), CallError> {
    let key = keys.unused();
    let script = async {
        let answer = scripts::RIGHTS.call(conn, |args| {
            args.fixed("1");
            args.text(key.as_str());
        });
        match answer.await {
            // The server checks the key of a script before it runs the script.
            Err(CallError::Refused(text)) if is_key_denial(&text) => Ok(Reply::Array(vec![Reply::Text(KEY.into())])),
            answer => answer,
        }
    };
    let (reply, ()) = tokio::try_join!(script, conn.run_empty_script())?;
    let Reply::Array(denied) = reply else {
        return Err(CallError::Refused(format!("{reply:?} to a script that tries rights")));
    };
    let name = |name| if let Reply::Text(name) = name { Some(name) } else { None };
    let (denied_keys, commands): (Vec<_>, Vec<_>) = denied.into_iter().filter_map(name).partition(|name| name == KEY);
    let mut reasons = Vec::new();
    if !denied_keys.is_empty() {
        let namespace = keys.front();
        reasons.push(format!("use the keys of the namespace, {namespace}* (it tried {key})"));
    }
    if !commands.is_empty() {
        reasons.push(format!("run {}", commands.join(" and ")));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    let reason = format!("the server does not let this user {}: {}", reasons.join(", nor "), remedy());
    Err(CallError::Unfit(reason))
}

fn is_key_denial(text: &str) -> bool {
    code_of(text) == "NOPERM" && text.contains("permissions to access")
}
