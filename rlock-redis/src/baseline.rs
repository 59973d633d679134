//! Measures Redis without locks: the fewest commands that could do the work of locks, over the same client library.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use rlock_core::{BackendError, Baseline, Events, Failure, LeaseId, ResourceName};
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use crate::answers;
use crate::conn::{Conn, Driver};
use crate::error::CallError;
use crate::keys::{Keys, inbox_channel};
use crate::messages::{Delivery, Messages};
use crate::route::{Purpose, Route};
use crate::scripts::Script;
use crate::wire::{Args, Reply};
use crate::{ConnectError, RedisConfig};

// They use only commands that the documented rights allow.
static TAKE: Script = Script::of(
    "if redis.call('GET', KEYS[1]) then return 0 end return redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])",
);
static GIVE_BACK: Script =
    Script::of("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0");
static WRITE_AND_PUBLISH: Script = Script::of(
    "redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2]) return \
                                 redis.call('PUBLISH', ARGV[3], ARGV[1])",
);
/// The size of a lock's record, in bytes: an id, an inbox and an owner.
const LENGTH: usize = 100;
/// The time from the start of the benchmark to the expiry of its keys, by this host's clock.
const EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);
/// The number of keys that the server scans per step of the clean-up.
const STEP: u64 = 1_000;

/// The cost of Redis without locks.
pub struct RedisBaseline {
    config: Arc<RedisConfig>,
    store: Arc<str>,
    keys: Keys,
    route: Route,
    channel: String,
    expires: String,
    messages: Mutex<Messages>,
    _listener: (Arc<Conn>, Driver),
}

impl RedisBaseline {
    /// Connects to each primary for commands, and to one for a subscription. The subscription is not reopened if it
    /// breaks.
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
        let (keys, config) = (Keys::new(&config.namespace), Arc::new(config));
        let unused = (Events::default(), Arc::new(Notify::new()));
        let route = Route::open(config.clone(), keys.clone(), &unused.0, &unused.1).await.map_err(failed)?;
        let listener = route.listener().open().await.map_err(failed)?;
        let channel = inbox_channel(LeaseId::random());
        let messages = Mutex::new(Messages::subscribe(&listener.0, &config, &channel).await.map_err(failed)?);
        let expires = SystemTime::now() + EXPIRY;
        let expires = expires.duration_since(UNIX_EPOCH).unwrap_or(EXPIRY).as_millis().to_string();
        Ok(Self { config, store, keys, route, channel, expires, messages, _listener: listener })
    }

    async fn command(
        &self,
        conn: &Conn,
        operation: &'static str,
        name: &'static str,
        args: Args,
    ) -> Result<Reply, BackendError> {
        conn.command(name, args).await.map_err(|error| self.failed(error, operation))
    }

    async fn run(&self, script: &Script, name: &str, more: &[&str]) -> Result<(), BackendError> {
        let name = ResourceName::new(format!("bare/{name}")).expect("the names of benchmarks are short and plain");
        let build = |args: &mut Args| {
            args.fixed("1");
            args.text(self.keys.resource(&name));
            args.text("x".repeat(LENGTH));
            more.iter().for_each(|&text| args.text(text));
        };
        let run = self.route.run(Keys::bucket(&name), Purpose::Other, script, build).await;
        run.map(drop).map_err(|error| self.failed(error, "write"))
    }

    fn conns(&self, operation: &'static str) -> Result<Vec<Arc<Conn>>, BackendError> {
        let primaries = self.route.primaries();
        let conns = primaries.iter().map(|primary| primary.commands()).collect::<Result<_, _>>();
        conns.map_err(|error| self.failed(error, operation))
    }

    fn failed(&self, error: CallError, operation: &'static str) -> BackendError {
        error.into_backend_error(operation, &self.store)
    }

    fn foreign(&self, reply: &Reply, operation: &'static str) -> BackendError {
        answers::foreign(reply).into_failure(operation, &self.store)
    }

    /// The sum of a number in a section of `INFO`, over all primaries.
    async fn sum_of(&self, section: &'static str, field: &str) -> Result<Option<u64>, BackendError> {
        let mut sum = None;
        for conn in self.conns("info")? {
            let mut args = Args::default();
            args.fixed(section);
            let reply = self.command(&conn, "info", "INFO", args).await?;
            let Reply::Text(info) = &reply else { return Err(self.foreign(&reply, "info")) };
            let number = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            let number: Option<u64> = number.and_then(|digits| digits.trim().parse().ok());
            sum = number.map(|number| sum.unwrap_or(0) + number).or(sum);
        }
        Ok(sum)
    }

    async fn clean_up_on(&self, conn: &Conn) -> Result<(), BackendError> {
        let (mut cursor, pattern) = ("0".to_owned(), self.keys.everything());
        loop {
            let mut args = Args::with_capacity(5);
            args.text(cursor);
            args.fixed("MATCH");
            args.text(pattern.as_str());
            args.fixed("COUNT");
            args.number(STEP);
            let reply = self.command(conn, "clean up", "SCAN", args).await?;
            let Reply::Array(parts) = &reply else { return Err(self.foreign(&reply, "clean up")) };
            let [Reply::Text(next), Reply::Array(keys)] = &parts[..] else {
                return Err(self.foreign(&reply, "clean up"));
            };
            for key in keys {
                let Reply::Text(key) = key else { continue };
                let mut found = Args::with_capacity(1); // the keys of a cluster's node are in several slots
                found.text(key.as_str());
                self.command(conn, "clean up", "DEL", found).await?;
            }
            cursor = next.clone();
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Baseline for RedisBaseline {
    async fn round_trip(&self) -> Result<(), BackendError> {
        let conns = self.conns("ping")?;
        self.command(&conns[0], "ping", "PING", Args::default()).await.map(drop)
    }

    async fn pair(&self, name: &str) -> Result<(), BackendError> {
        self.run(&TAKE, name, &[&self.expires]).await?;
        self.run(&GIVE_BACK, name, &[]).await
    }

    async fn write_and_push(&self) -> Result<(), BackendError> {
        let mut messages = self.messages.lock().await;
        self.run(&WRITE_AND_PUBLISH, "push", &[&self.expires, &self.channel]).await?;
        match timeout(self.config.timeout, messages.next()).await {
            Ok(Delivery::Message(_)) => Ok(()),
            Ok(Delivery::Missed) | Err(_) => {
                let reason = format!("no message on the subscribed channel within {:?}", self.config.timeout);
                Err(BackendError::Unknown(Failure::new("publish", self.store.clone(), reason)))
            }
        }
    }

    async fn counters(&self) -> Result<Vec<(&'static str, u64)>, BackendError> {
        let commands = self.sum_of("stats", "total_commands_processed").await?;
        Ok(commands.map(|count| ("commands", count)).into_iter().collect())
    }

    async fn size(&self) -> Result<Option<u64>, BackendError> {
        self.sum_of("memory", "used_memory").await
    }

    async fn clean_up(&self) -> Result<(), BackendError> {
        for conn in self.conns("clean up")? {
            self.clean_up_on(&conn).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisBaseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBaseline").field("config", &self.config).finish_non_exhaustive()
    }
}
