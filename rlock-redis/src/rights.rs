//! The access rights that a user of the server needs.

use crate::RedisConfig;
use crate::conn::{Conn, Reply};
use crate::error::CallError;
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
    ///   percent-encoded.
    /// - Without a [`restart_grace`](Self::restart_grace), `+info` can be left out.
    ///   [`examine`](rlock_core::Backend::examine) looks at fewer settings then.
    pub const ACL_RULES: &str = acl_rules!();
}

/// How to get all rights.
pub(crate) fn remedy() -> String {
    format!("give the user all rights that rlock needs, by ACL SETUSER NAME {}", RedisConfig::ACL_RULES)
}

/// Tries the rights that connecting does not use, so that a missing one shows now and not in the first wait.
pub(crate) async fn try_all(conn: &Conn, keys: &Keys) -> Result<(), CallError> {
    let script = scripts::RIGHTS.call(conn, |args| {
        args.fixed("1");
        args.text(keys.unused());
    });
    let (reply, ()) = tokio::try_join!(script, conn.run_empty_script())?;
    let Reply::Array(commands) = reply else {
        return Err(CallError::Refused(format!("{reply:?} to a script that tries rights")));
    };
    let name = |command| if let Reply::Text(name) = command { Some(name) } else { None };
    let commands: Vec<String> = commands.into_iter().filter_map(name).collect();
    if commands.is_empty() {
        return Ok(());
    }
    let reason = format!("the server does not let this user run {}: {}", commands.join(" and "), remedy());
    Err(CallError::Unfit(reason))
}
