//! Clients in other processes.

use std::time::Duration;

use rlock_core::{Guard, LockOptions};

use crate::locking;
use crate::process::{Helper, Process, Program};
use crate::stage::Stage;

pub(crate) const ADDRESS: &str = "address";
pub(crate) const NAMESPACE: &str = "namespace";
const ROLE: &str = "remote";

/// Starts clients, each in a new process.
#[derive(Debug)]
pub struct Remotes {
    program: Program,
    address: String,
}

impl Remotes {
    /// Starts processes of `program` with the address of the store.
    pub(crate) fn new(program: Program, address: &str) -> Self {
        Self { program: program.with(ADDRESS, address), address: address.to_owned() }
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// The address of the store.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Starts a client in another process.
    pub fn start(&self) -> Remote {
        Remote { process: self.program.start(ROLE) }
    }
}

/// A client in another process, which holds at most one mutex. Dropping this kills the process.
#[derive(Debug)]
pub struct Remote {
    process: Process,
}

impl Remote {
    /// Waits for the mutex `name`, renews it, and returns its token.
    pub async fn lock(&mut self, name: &str, ttl: Duration) -> u64 {
        let answer = self.request(&format!("lock {} {name}", ttl.as_millis())).await;
        token_in(&answer).unwrap_or_else(|| panic!("the other process should have got {name:?}: {answer}"))
    }

    /// Waits for the mutex `name`, without a watchdog, and returns its token.
    pub async fn lock_unwatched(&mut self, name: &str, ttl: Duration) -> u64 {
        let answer = self.request(&format!("hold {} {name}", ttl.as_millis())).await;
        token_in(&answer).unwrap_or_else(|| panic!("the other process should have got {name:?}: {answer}"))
    }

    /// Tries to acquire the mutex `name`.
    pub async fn try_lock(&mut self, name: &str, ttl: Duration) -> Option<u64> {
        token_in(&self.request(&format!("try {} {name}", ttl.as_millis())).await)
    }

    /// Releases the mutex.
    pub async fn unlock(&mut self) {
        assert_eq!(self.request("unlock").await, "released", "the other process holds it until then");
    }

    /// Whether the process believes that it holds the mutex.
    pub async fn believes(&mut self) -> bool {
        self.request("check").await == "held"
    }

    /// Sends the request of [`believes`](Self::believes). [`heard_belief`](Self::heard_belief) waits for the answer.
    pub fn ask_belief(&mut self) {
        self.process.say("check");
    }

    /// The answer to [`ask_belief`](Self::ask_belief).
    pub async fn heard_belief(&mut self) -> bool {
        self.process.hear().await == "held"
    }

    /// Freezes the process with SIGSTOP.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets the process continue after a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Kills the process with SIGKILL, so that it releases nothing.
    pub fn kill(self) {
        self.process.kill();
    }

    async fn request(&mut self, line: &str) -> String {
        self.process.say(line);
        self.process.hear().await
    }
}

fn token_in(answer: &str) -> Option<u64> {
    answer.strip_prefix("held ")?.parse().ok()
}

/// Executes the requests of the test, until the test process ends.
pub(crate) async fn obey(stage: &Stage, mut helper: Helper) {
    let client = stage.client().await;
    let mut held: Option<Guard> = None;
    loop {
        let request = helper.hear().await;
        let mut words = request.splitn(3, ' ');
        let verb = words.next().unwrap_or_default();
        if verb == "check" {
            let guard = held.as_ref().expect("the test made it lock before");
            helper.say(if guard.is_held() { "held" } else { "lost" });
            continue;
        }
        if verb == "unlock" {
            locking::unlock(held.take().expect("the test made it lock before")).await;
            helper.say("released");
            continue;
        }
        let millis = words.next().and_then(|word| word.parse().ok()).expect("a TTL in ms");
        let ttl = Duration::from_millis(millis);
        let options = LockOptions::new().ttl(ttl);
        let mutex = locking::mutex(&client, words.next().expect("a name"));
        held = match verb {
            "lock" => Some(locking::soon("a lock", mutex.lock_with(options)).await),
            "hold" => Some(locking::soon("a lock", mutex.lock_with(locking::unwatched(ttl))).await),
            "try" => locking::soon("a try", mutex.try_lock_with(options)).await,
            _ => panic!("a helper cannot {request:?}"),
        };
        match &held {
            Some(guard) => helper.say(format_args!("held {}", guard.token())),
            None => helper.say("busy"),
        }
    }
}
