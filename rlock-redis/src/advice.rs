//! Error texts that say what to write in the URL, and which rights to give to the user.

use crate::RedisConfig;

pub(crate) const IS_CLUSTER: &str =
    "the server is a node of a Redis Cluster: write redis-cluster://host:port (or rediss-cluster:// for TLS)";
pub(crate) const IS_NO_CLUSTER: &str =
    "the server is not a node of a Redis Cluster: write redis://host:port (or rediss:// for TLS)";
pub(crate) const CLUSTER_IS_DOWN: &str = "the cluster is down: slots are not served, or most of its primaries fail";
pub(crate) const IS_SENTINEL: &str = "the server is a sentinel: write redis-sentinel://host:port,host:port/service, with the name that the \
                           primary has in sentinel.conf";
pub(crate) const SENTINEL_WANTS_PASSWORD: &str =
    "it wants a password: put sentinel_password=PASSWORD into the URL, and sentinel_user=NAME for a user with a name";
pub(crate) const SENTINEL_REFUSES_LOGIN: &str = "check sentinel_user and sentinel_password in the URL";
pub(crate) const IS_REPLICA: &str = "the server is a replica, which grants nothing: let the URL name the primary";

macro_rules! acl_rules {
    () => {
        "~rlock:* resetchannels &rlock:inbox:* +select +info +cluster|slots +cluster|info +asking +wait +ping +time +scan +eval +evalsha +script|load +subscribe \
         +publish +get +mget +set +setrange +exists +del +pexpireat +zadd +zrem +zlexcount +zrangebylex +zrevrangebylex"
    };
}

macro_rules! sentinel_acl_rules {
    () => {
        "+sentinel|master +ping"
    };
}

impl RedisConfig {
    /// The rules of Redis's `ACL SETUSER` for a user of rlock:
    ///
    /// ```text
    #[doc = concat!("ACL SETUSER locks on >PASSWORD ", acl_rules!())]
    /// ```
    ///
    /// They apply from Redis 6.2 on and to Valkey. [`RedisBackend::connect`](crate::RedisBackend::connect) tries each
    /// right and refuses a user who lacks one, with these rules in the error. Some of them can be narrower:
    ///
    /// - For one namespace, `~rlock:2:{NAMESPACE:*` is enough, with the characters `%`, `:`, `{` and `}` of the namespace
    ///   percent-encoded. Rules for single resources are refused.
    /// - Without a [`restart_grace`](Self::restart_grace), `+info` can be left out.
    ///   [`examine`](rlock_core::Backend::examine) then checks fewer settings, and [`wait_replicas`](Self::wait_replicas)
    ///   counts the replicas of another server to which a proxy leads some connections.
    /// - `+cluster|slots`, `+cluster|info` and `+asking` are for a cluster, `+wait` for [`wait_replicas`](Self::wait_replicas).
    ///
    /// A user of the sentinels needs other [rules](Self::SENTINEL_ACL_RULES).
    pub const ACL_RULES: &str = acl_rules!();

    /// The rules of `ACL SETUSER` for the user with whom rlock asks the sentinels, at each of them:
    ///
    /// ```text
    #[doc = concat!("ACL SETUSER watcher on >PASSWORD ", sentinel_acl_rules!())]
    /// ```
    ///
    /// Without a password in the URL, that is the user `default`. Only then does rlock send a `PING`.
    pub const SENTINEL_ACL_RULES: &str = sentinel_acl_rules!();
}

/// Names the rights to give to the user.
pub(crate) fn give_rights() -> String {
    format!("give the user all rights that rlock needs, by ACL SETUSER NAME {}", RedisConfig::ACL_RULES)
}

/// Names the rights to give to the user of the sentinels.
pub(crate) fn give_sentinel_rights() -> String {
    let rules = RedisConfig::SENTINEL_ACL_RULES;
    format!("it does not let this user ask for the primary: give the user its rights, by ACL SETUSER NAME {rules}")
}
