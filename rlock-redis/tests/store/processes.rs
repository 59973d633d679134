//! Locks on Redis, of processes that are killed, frozen and many.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::poll;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rlock_core::{Client, Guard, LockOptions, Namespace, SimpleLock};
use rlock_redis::{RedisBackend, RedisConfig};
use rlock_testkit::process::{Helper, Process, Program};
use rlock_testkit::servers::{Redis, Reply};
use rlock_testkit::this_test;
use rlock_testkit::wait::{eventually, within};

use crate::support::block_on;

const NAME: &str = "job";
const SOON: Duration = Duration::from_secs(30);

#[test]
fn killed_holder_costs_its_ttl_plus_250_ms() {
    const TTL: Duration = Duration::from_secs(2);
    if let Some(helper) = Helper::current() {
        return block_on(holds_until_killed(helper, TTL));
    }
    block_on(async {
        let fixture = Fixture::new();
        let client = fixture.client().await;
        let mut holder = fixture.program(this_test!()).start("holder");
        let token = number_in("held", &holder.hear().await);
        let waiting = tokio::spawn(lock(client.clone(), LockOptions::new()));
        sees_queued(&client, 1).await;

        let killed = Instant::now();
        holder.kill();
        let guard = within(SOON, "the next waiter's turn", waiting).await.expect("the waiter does not panic");
        let cost = killed.elapsed();
        assert!(cost <= TTL + Duration::from_millis(250), "the next waiter had the lock after {cost:?}");
        assert!(guard.token().get() > token);
    });
}

async fn holds_until_killed(mut helper: Helper, ttl: Duration) {
    let client = Fixture::of(&helper).client().await;
    let guard = lock(client, LockOptions::new().ttl(ttl)).await;
    helper.say(format_args!("held {}", guard.token()));
    helper.hear().await;
}

#[test]
fn thousand_waiters_are_served_in_order_cheaply() {
    const PROCESSES: usize = 10;
    if let Some(helper) = Helper::current() {
        return block_on(waits_many_times(helper));
    }
    block_on(async {
        let fixture = Fixture::new();
        let program = fixture.program(this_test!());
        let mut costs = Vec::new();
        for waiters in [2, 100] {
            let program = program.clone().with("waiters", waiters);
            let mut crowd: Vec<Process> = (0..PROCESSES).map(|_| program.start("waiters")).collect();
            costs.push(cost_per_turn(&fixture, &mut crowd, waiters).await);
        }
        let [few, many] = costs[..] else { unreachable!("there were two runs") };
        println!("{few:.2} commands a turn with 20 waiters, {many:.2} with 1,000");
        // A turn that ends at once needs no extension; a cost that grew with the queue would be many times higher.
        assert!(many <= few * 1.5, "{few:.2} commands a turn with 20 waiters, {many:.2} with 1,000");
    });
}

/// Makes each process of `crowd` wait `waiters` times, checks that all are served in the order in which they queued,
/// and returns the number of commands of Redis for each turn.
async fn cost_per_turn(fixture: &Fixture, crowd: &mut [Process], waiters: usize) -> f64 {
    let turns = crowd.len() * waiters;
    let client = fixture.client().await;
    let guard = lock(client.clone(), LockOptions::new()).await;
    for process in crowd.iter_mut() {
        process.say("queue");
    }
    sees_queued(&client, turns).await;
    let queue = client.inspect(NAME).await.expect("Redis answers").queue;
    let queued: Vec<u32> = queue.iter().map(|waiter| waiter.owner.process()).collect();

    let before = fixture.server().commands_run();
    guard.unlock().await.expect("it is held");
    let mut served = HashMap::new();
    for process in crowd.iter_mut() {
        for _ in 0..waiters {
            served.insert(number_in("held", &process.hear().await), process.id());
        }
        assert_eq!(process.hear().await, "done");
    }
    let commands = fixture.server().commands_run() - before;
    let mut tokens: Vec<u64> = served.keys().copied().collect();
    tokens.sort_unstable();
    let order: Vec<u32> = tokens.iter().map(|token| served[token]).collect();
    assert_eq!(order.len(), turns, "two waiters had the same token");
    assert!(order == queued, "the waiters were served in another order than they had queued in");
    commands as f64 / turns as f64
}

async fn waits_many_times(mut helper: Helper) {
    let client = Fixture::of(&helper).client().await;
    let waiters: usize = helper.setting("waiters").parse().expect("a number of waiters");
    assert_eq!(helper.hear().await, "queue");
    let turn = async || {
        let guard = lock(client.clone(), LockOptions::new().ttl(Duration::from_secs(120))).await;
        helper.say(format_args!("held {}", guard.token()));
        guard.unlock().await.expect("it is held");
    };
    join_all((0..waiters).map(|_| turn())).await;
    helper.say("done");
    helper.hear().await;
}

#[test]
fn ten_thousand_dropped_locks_leave_nothing() {
    const TTL: Duration = Duration::from_secs(2);
    block_on(async {
        let fixture = Fixture::new();
        let clients = [fixture.client().await, fixture.client().await];
        let seed = rand::random();
        println!("seed {seed}");
        let mut chance = StdRng::seed_from_u64(seed);
        let mut guards = Vec::new();
        for number in 0..10_000 {
            let client = clients[number % 2].clone();
            let lock = SimpleLock::new(format!("job/{}", chance.random_range(0..100)), &client).expect("a good name");
            let polls = chance.random_range(0..5);
            guards.extend(poll_some(lock.lock_with(LockOptions::new().ttl(TTL)), polls).await.map(Result::unwrap));
            if guards.len() > 50 {
                drop(guards.remove(0));
            }
        }
        drop(guards);
        let ended = Instant::now();
        let released = async || clients.iter().all(|client| client.open_leases() == 0);
        eventually(SOON, "the release of all locks", released).await;
        tokio::time::sleep(TTL.saturating_sub(ended.elapsed())).await;
        assert_eq!(fixture.leftovers(), Vec::<String>::new());
    });
}

async fn poll_some<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = poll!(future.as_mut()) {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test(flavor = "current_thread")]
async fn blocked_runtime_keeps_a_hundred_locks() {
    const TTL: Duration = Duration::from_secs(1);
    const BLOCKED: Duration = Duration::from_secs(8);
    let fixture = Fixture::new();
    let client = fixture.client().await;
    let names: Vec<String> = (0..100).map(|number| format!("job/{number}")).collect();
    let guards = join_all(names.iter().map(async |name| {
        let lock = SimpleLock::new(name, &client).expect("a good name");
        lock.lock_with(LockOptions::new().ttl(TTL)).await.expect("it is free")
    }))
    .await;
    std::thread::sleep(BLOCKED);
    let lost: Vec<&Guard> = guards.iter().filter(|guard| !guard.is_held()).collect();
    assert!(lost.is_empty(), "{} locks were lost: {lost:?}", lost.len());
    for guard in &guards {
        let holders = client.inspect(guard.resource()).await.expect("Redis answers").holders;
        assert_eq!(holders.iter().map(|holder| holder.token).collect::<Vec<_>>(), [guard.token()]);
        assert!(holders[0].held_for >= BLOCKED);
    }
}

/// The process runs for half of the time, in slices, as in a group that may use half a processor.
#[test]
fn half_a_processor_keeps_a_thousand_locks() {
    const TTL: Duration = Duration::from_secs(5);
    const SLICE: Duration = Duration::from_millis(50);
    if let Some(helper) = Helper::current() {
        return block_on(holds_many(helper, TTL));
    }
    block_on(async {
        let fixture = Fixture::new();
        let mut holder = fixture.program(this_test!()).start("holder");
        assert_eq!(holder.hear().await, "held");
        let started = Instant::now();
        while started.elapsed() < 2 * TTL {
            holder.pause();
            tokio::time::sleep(SLICE).await;
            holder.resume();
            tokio::time::sleep(SLICE).await;
        }
        holder.say("count");
        assert_eq!(number_in("lost", &holder.hear().await), 0);
    });
}

async fn holds_many(mut helper: Helper, ttl: Duration) {
    let client = Fixture::of(&helper).client().await;
    let names: Vec<String> = (0..1_000).map(|number| format!("job/{number}")).collect();
    let guards = join_all(names.iter().map(async |name| {
        let lock = SimpleLock::new(name, &client).expect("a good name");
        lock.lock_with(LockOptions::new().ttl(ttl)).await.expect("it is free")
    }))
    .await;
    helper.say("held");
    assert_eq!(helper.hear().await, "count");
    helper.say(format_args!("lost {}", guards.iter().filter(|guard| !guard.is_held()).count()));
    helper.hear().await;
}

/// A namespace on a server, here or in the test that started this helper.
struct Fixture {
    url: String,
    namespace: Namespace,
    server: Option<Redis>,
}

impl Fixture {
    fn new() -> Self {
        let server = Redis::start();
        let namespace = Namespace::new(format!("rlock-test-{:016x}", rand::random::<u64>())).expect("short and plain");
        Self { url: server.url().to_owned(), namespace, server: Some(server) }
    }

    fn of(helper: &Helper) -> Self {
        let namespace = Namespace::new(helper.setting("namespace")).expect("the test's namespace");
        Self { url: helper.setting("url"), namespace, server: None }
    }

    fn server(&self) -> &Redis {
        self.server.as_ref().expect("only the test that started the server looks at it")
    }

    fn program(&self, test: Program) -> Program {
        test.with("url", &self.url).with("namespace", &self.namespace)
    }

    async fn client(&self) -> Client {
        let config = RedisConfig::from_url(&format!("{}?restart_grace=0s", self.url)).expect("a URL of Redis");
        let config = config.namespace(self.namespace.clone());
        Client::builder().connect(RedisBackend::connect(config)).await.expect("Redis can be reached")
    }

    /// The keys that are more than the last token of a resource, or have no expiry.
    fn leftovers(&self) -> Vec<String> {
        let mut resp = self.server().resp();
        let mut keys = self.server().keys(&format!("rlock:2:{{{}:*", self.namespace));
        let mut keeps_only_tokens = |key: &String| {
            let expires = matches!(resp.command(&["PTTL", key]), Reply::Int(1..));
            expires && resp.send(&["STRLEN", key]).is_ok_and(|length| length == Reply::Int(16))
        };
        keys.retain(|key| !keeps_only_tokens(key));
        keys
    }
}

async fn lock(client: Client, options: LockOptions) -> Guard {
    SimpleLock::new(NAME, &client).expect("a good name").lock_with(options).await.expect("the lock can be had")
}

async fn sees_queued(client: &Client, count: usize) {
    let queued = async || client.inspect(NAME).await.expect("Redis answers").queue.len() == count;
    eventually(SOON, "the waiters to queue", queued).await;
}

fn number_in(word: &str, line: &str) -> u64 {
    let number = line.strip_prefix(word).and_then(|number| number.trim().parse().ok());
    number.unwrap_or_else(|| panic!("the helper said {line:?} instead of {word} and a number"))
}
