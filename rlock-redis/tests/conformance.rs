//! rlock-redis passes the suite.

use std::sync::Arc;

use rlock_core::{Backend, Namespace};
use rlock_redis::{RedisBackend, RedisConfig};
use rlock_testkit::faults::Control;
use rlock_testkit::servers::{Redis, Reply};
use rlock_testkit::{Controlled, Harness, Shared, async_trait};

rlock_testkit::conformance!(redis: RedisHarness);
rlock_testkit::conformance!(redis_as_a_user: UserHarness, without(processes, network, control));

struct RedisHarness {
    url: String,
    server: Option<Redis>,
}

impl RedisHarness {
    fn of(server: Redis, options: &str) -> Self {
        Self { url: format!("{}{options}", server.url()), server: Some(server) }
    }

    fn store(&self) -> &Redis {
        self.server.as_ref().expect("only the test that started the server looks at it")
    }
}

#[async_trait]
impl Harness for RedisHarness {
    async fn start() -> Self {
        Self::of(Redis::start(), "?restart_grace=0s") // it is never restarted
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        let config = RedisConfig::from_url(&self.url).expect("a URL of Redis").namespace(namespace.clone());
        Arc::new(RedisBackend::connect(config).await.expect("Redis can be reached"))
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        let mut resp = self.store().resp();
        let mut keeps_only_tokens = |key: &String| {
            let expires = matches!(resp.command(&["PTTL", key]), Reply::Int(1..));
            expires && resp.send(&["STRLEN", key]).is_ok_and(|length| length == Reply::Int(16))
        };
        let mut keys = self.store().keys(&format!("rlock:2:{{{namespace}:*"));
        keys.retain(|key| !keeps_only_tokens(key));
        keys
    }
}

/// A server that is reached as a user who has the documented rights and no others.
struct UserHarness(RedisHarness);

#[async_trait]
impl Harness for UserHarness {
    async fn start() -> Self {
        let server = Redis::start_with(&[]);
        let command = ["ACL", "SETUSER", "locks", "on", ">secret"].into_iter().chain(RedisConfig::ACL_RULES.split(' '));
        server.resp().command(&command.collect::<Vec<_>>());
        let url = server.url().replacen("redis://", "redis://locks:secret@", 1) + "?restart_grace=1ms"; // which reads INFO
        Self(RedisHarness { url, server: Some(server) })
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        self.0.connect(namespace).await
    }

    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        self.0.leftovers(namespace).await
    }
}

#[async_trait]
impl Shared for RedisHarness {
    fn address(&self) -> String {
        self.url.clone()
    }

    async fn attach(address: &str) -> Self {
        Self { url: address.to_owned(), server: None }
    }
}

#[async_trait]
impl Controlled for RedisHarness {
    async fn start_durable() -> Self {
        Self::of(Redis::start_durable(), "")
    }

    fn server(&self) -> &dyn Control {
        self.server.as_ref().expect("only the test that started the server tampers with it")
    }
}
