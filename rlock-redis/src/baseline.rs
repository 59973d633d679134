//! Measures Redis without locks: the fewest commands that could do their work, over the same client library.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use rlock_core::{BackendError, Baseline, Failure, LeaseId};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::answers;
use crate::conn::{Args, Conn, Delivery, Driver, Messages, Reply};
use crate::error::CallError;
use crate::keys::{Keys, inbox_channel};
use crate::{ConnectError, RedisConfig};

// Only commands that users of the documented rights may run.
const TAKE: &str =
    "if redis.call('GET', KEYS[1]) then return 0 end return redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])";
const GIVE_BACK: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
const WRITE_AND_PUBLISH: &str = "redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2]) return \
                                 redis.call('PUBLISH', ARGV[3], ARGV[1])";
/// The length of what a lock writes: an id, an inbox and an owner.
const LENGTH: usize = 100;
/// The time from the start of the benchmark to the expiry of its keys, by this host's clock.
const EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);
/// The number of keys that the server scans in one step of the clean-up.
const STEP: u64 = 1_000;

/// The cost of a Redis server without locks.
pub struct RedisBaseline {
    config: RedisConfig,
    store: Arc<str>,
    keys: Keys,
    conn: Arc<Conn>,
    channel: String,
    expires: String,
    messages: Mutex<Messages>,
    take: String,
    give_back: String,
    write_and_publish: String,
    _connections: [(Arc<Conn>, Driver); 2],
}

impl RedisBaseline {
    /// Connects twice, for commands and for a subscription. They are not opened again if they break.
    ///
    /// # Errors
    ///
    /// As for [`RedisBackend::connect`](crate::RedisBackend::connect).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub async fn connect(config: RedisConfig) -> Result<Self, ConnectError> {
        let store = Arc::<str>::from(config.address());
        let failed = |error: CallError| error.into_connect_error(&store);
        let (conn, driver) = Conn::open(&config).await.map_err(failed)?;
        let (listener, listening) = Conn::open(&config).await.map_err(failed)?;
        let channel = inbox_channel(LeaseId::random());
        let messages = listener.subscribe(&config, &channel).await.map_err(failed)?;
        let load = async |source| load(&conn, source).await.map_err(failed);
        let (take, give_back) = (load(TAKE).await?, load(GIVE_BACK).await?);
        let write_and_publish = load(WRITE_AND_PUBLISH).await?;
        let keys = Keys::new(&config.namespace);
        let expires = SystemTime::now() + EXPIRY;
        let expires = expires.duration_since(UNIX_EPOCH).unwrap_or(EXPIRY).as_millis().to_string();
        let (messages, connections) = (Mutex::new(messages), [(conn.clone(), driver), (listener, listening)]);
        Ok(Self {
            config,
            store,
            keys,
            conn,
            channel,
            expires,
            messages,
            take,
            give_back,
            write_and_publish,
            _connections: connections,
        })
    }

    async fn command(&self, operation: &'static str, name: &'static str, args: Args) -> Result<Reply, BackendError> {
        self.conn.command(name, args).await.map_err(|error| error.into_backend_error(operation, &self.store))
    }

    async fn run(&self, operation: &'static str, digest: &str, name: &str, more: &[&str]) -> Result<(), BackendError> {
        let mut args = Args::with_capacity(6);
        args.text(digest);
        args.fixed("1");
        args.text(self.key(name));
        args.text("x".repeat(LENGTH));
        more.iter().for_each(|&text| args.text(text));
        self.command(operation, "EVALSHA", args).await.map(drop)
    }

    fn key(&self, name: &str) -> String {
        format!("{}bare/{name}}}", self.keys.front())
    }

    fn foreign(&self, reply: &Reply, operation: &'static str) -> BackendError {
        answers::foreign(reply).into_failure(operation, &self.store)
    }
}

async fn load(conn: &Conn, source: &'static str) -> Result<String, CallError> {
    let mut args = Args::with_capacity(2);
    args.fixed("LOAD");
    args.fixed(source);
    match conn.command("SCRIPT", args).await? {
        Reply::Text(digest) => Ok(digest),
        other => Err(CallError::Refused(format!("{other:?} to SCRIPT LOAD"))),
    }
}

#[async_trait]
impl Baseline for RedisBaseline {
    async fn round_trip(&self) -> Result<(), BackendError> {
        self.command("ping", "PING", Args::default()).await.map(drop)
    }

    async fn pair(&self, name: &str) -> Result<(), BackendError> {
        self.run("write", &self.take, name, &[&self.expires]).await?;
        self.run("write", &self.give_back, name, &[]).await
    }

    async fn write_and_push(&self) -> Result<(), BackendError> {
        let mut messages = self.messages.lock().await;
        self.run("write", &self.write_and_publish, "push", &[&self.expires, &self.channel]).await?;
        match timeout(self.config.timeout, messages.next()).await {
            Ok(Delivery::Message(_)) => Ok(()),
            Ok(Delivery::Missed) | Err(_) => {
                let reason = format!("no message on the subscribed channel within {:?}", self.config.timeout);
                Err(BackendError::Unknown(Failure::new("publish", self.store.clone(), reason)))
            }
        }
    }

    async fn counters(&self) -> Result<Vec<(&'static str, u64)>, BackendError> {
        let mut section = Args::default();
        section.fixed("stats");
        let reply = self.command("info", "INFO", section).await?;
        let Reply::Text(info) = &reply else { return Err(self.foreign(&reply, "info")) };
        let commands = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        let commands = commands.and_then(|count| count.trim().parse().ok());
        Ok(commands.map(|count| ("commands", count)).into_iter().collect())
    }

    async fn clean_up(&self) -> Result<(), BackendError> {
        let (mut cursor, pattern) = ("0".to_owned(), self.keys.everything());
        loop {
            let mut args = Args::with_capacity(5);
            args.text(cursor);
            args.fixed("MATCH");
            args.text(pattern.as_str());
            args.fixed("COUNT");
            args.number(STEP);
            let reply = self.command("clean up", "SCAN", args).await?;
            let Reply::Array(parts) = &reply else { return Err(self.foreign(&reply, "clean up")) };
            let [Reply::Text(next), Reply::Array(keys)] = &parts[..] else {
                return Err(self.foreign(&reply, "clean up"));
            };
            let mut found = Args::with_capacity(keys.len());
            let text = |key: &Reply| if let Reply::Text(key) = key { Some(key.clone()) } else { None };
            keys.iter().filter_map(text).for_each(|key| found.text(key));
            if !keys.is_empty() {
                self.command("clean up", "DEL", found).await?;
            }
            cursor = next.clone();
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}

impl fmt::Debug for RedisBaseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBaseline").field("config", &self.config).finish_non_exhaustive()
    }
}
