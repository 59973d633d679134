//! Runs processes that contend for locks, and injects faults.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;
use tokio::sync::{Mutex, RwLock, watch};
use tokio::time::{sleep, timeout};
use url::Url;

use super::deck::Deck;
use super::mishap::Mishap;
use super::registers;
use super::worker::{FOLDER, NUMBER, REGISTERS, ROLE, SEED, WORKLOAD, recorder};
use super::workload::Workload;
use crate::faults::{Control, Data, Proxy, Way};
use crate::history::{History, Recorder, Register, Verdict, What, now};
use crate::process::{Process, Program};
use crate::remote::ADDRESS;

/// Longest time that a process may take to connect.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Longest time in which all waiters of the end are served: holds end early then, but the leases of dead holders, whose
/// TTL is a few seconds, and elections take their time.
const SERVED_WITHIN: Duration = Duration::from_secs(60);

/// Number of faults in processes at a time, beside one in the server.
const LANES: u64 = 3;

/// Processes that contend for the locks of one store, and the faults injected into them and into the server.
pub struct Arena<'a> {
    workload: Workload,
    program: Program,
    /// The address of the store.
    address: String,
    is_proxied: bool,
    server: Option<&'a dyn Control>,
    has_split_pauses: bool,
    folder: TempDir,
    recorder: Recorder,
    participants: Vec<Mutex<Participant>>,
    next: AtomicU32,
    /// Locked for writing while the server is down: a process that starts has to reach it.
    is_up: RwLock<()>,
    happened: StdMutex<BTreeMap<Mishap, u64>>,
    seed: u64,
}

/// One process, and its proxy to the store.
struct Participant {
    /// The address of the store through a proxy, and the proxy; `None` without a proxy.
    front: Option<(String, Proxy)>,
    process: Option<(u32, Process)>,
}

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The result of the history check.
    pub verdict: Verdict,
    /// The number of faults of each kind that was asked for.
    pub mishaps: BTreeMap<Mishap, u64>,
}

impl<'a> Arena<'a> {
    /// Makes an arena for this number of processes, in which `program` runs
    /// [`run_contender`](super::run_contender). Each has its own proxy in front of the store at `address`, if that
    /// is the URL of one server; see [`behind`](Self::behind) for others. The seed decides all random choices, as far as
    /// runs of processes can be repeated.
    ///
    /// # Panics
    ///
    /// Panics if the system has no temporary folder or no port.
    pub async fn new(
        workload: Workload,
        program: Program,
        address: &str,
        server: Option<&'a dyn Control>,
        processes: usize,
        seed: u64,
    ) -> Self {
        let folder = tempfile::tempdir().expect("the system has a place for temporary files");
        let recorder = recorder(folder.path(), 0);
        let registers =
            registers::serve(Register::new(recorder.clone())).await.expect("the loopback interface has a port");
        let program = program
            .with(WORKLOAD, &workload)
            .with(FOLDER, folder.path().display())
            .with(REGISTERS, SocketAddr::to_string(&registers));
        let participant = |_| Mutex::new(Participant { front: None, process: None });
        let arena = Self {
            workload,
            program,
            address: address.to_owned(),
            is_proxied: false,
            server,
            has_split_pauses: false,
            folder,
            recorder,
            participants: (0..processes).map(participant).collect(),
            next: AtomicU32::new(1),
            is_up: RwLock::default(),
            happened: StdMutex::default(),
            seed,
        };
        if Url::parse(address).is_ok_and(|url| url.port().is_some()) {
            return arena.behind(|address| {
                let proxy = Proxy::in_front_of(address);
                (proxy.url().to_owned(), proxy)
            });
        }
        arena
    }

    /// Puts a proxy between each process and the store. `proxied` starts it for an address of the store, and returns the
    /// address through it.
    #[must_use]
    pub fn behind(mut self, proxied: impl Fn(&str) -> (String, Proxy)) -> Self {
        for participant in &mut self.participants {
            participant.get_mut().front = Some(proxied(&self.address));
        }
        self.is_proxied = true;
        self
    }

    /// Notes each pause of the server as a [split](What::Split): it cuts a primary off, and another server replaces it.
    /// The old primary must grant nothing after [`resume`](Control::resume) has returned.
    #[must_use]
    pub fn with_split_pauses(mut self) -> Self {
        self.has_split_pauses = true;
        self
    }

    /// The faults that can happen to the store, if the arena owns the server: those of the network need proxies.
    pub fn possible(&self) -> Vec<Mishap> {
        Mishap::ALL.into_iter().filter(|mishap| self.is_proxied || !mishap.is_of_the_network()).collect()
    }

    /// Lets the processes contend for `time` while `mishaps` happen, ends them, and checks their history.
    ///
    /// A loss counts as signalled late if it is noted more than `late_allowed` after the deadline, unless the machine
    /// did not let the process run.
    ///
    /// # Panics
    ///
    /// Panics if a process panics, also one that is killed later, or cannot connect to the store while no fault is
    /// injected.
    pub async fn run(&self, time: Duration, mishaps: &[Mishap], late_allowed: Duration) -> Outcome {
        self.run_during(async { sleep(time).await }, mishaps, late_allowed).await
    }

    /// As [`run`](Self::run), until `work` is done. The work begins when all processes are connected.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub async fn run_during(
        &self,
        work: impl Future<Output = ()>,
        mishaps: &[Mishap],
        late_allowed: Duration,
    ) -> Outcome {
        join_all(
            self.participants.iter().map(|participant| async { self.start(&mut *participant.lock().await).await }),
        )
        .await;
        self.happened().extend(mishaps.iter().map(|mishap| (*mishap, 0)));
        let (server, others): (Vec<Mishap>, Vec<Mishap>) = mishaps.iter().partition(|mishap| mishap.is_of_the_server());
        let end = watch::Sender::new(false);
        let work = async {
            work.await;
            end.send_replace(true);
        };
        let lanes = (0..LANES).map(|lane| self.lane(lane, &others, end.subscribe()));
        tokio::join!(self.server_lane(&server, end.subscribe()), join_all(lanes), work);
        join_all(self.participants.iter().map(|participant| async { participant.lock().await.finish().await })).await;
        self.recorder.note(What::End);

        let history = History::read(self.folder.path()).unwrap_or_else(|error| panic!("{error}"));
        Outcome { verdict: history.check(late_allowed), mishaps: self.happened().clone() }
    }

    /// Whether the run has begun each kind of fault that it was asked for. A run ends after all faults that it has begun.
    pub fn has_begun_each(&self) -> bool {
        self.happened().values().all(|count| *count > 0)
    }

    /// Starts a process, and returns when it is connected.
    async fn start(&self, participant: &mut Participant) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let program = self
            .program
            .clone()
            .with(NUMBER, number)
            .with(ADDRESS, participant.front.as_ref().map_or(&*self.address, |(address, _)| address.as_str()));
        let mut process = program.with(SEED, self.seed.wrapping_add(number.into())).start(ROLE);
        let heard = process.hear_within(READY_WITHIN).await;
        assert_eq!(heard.as_deref(), Some("ready"), "a process should have connected to {}", self.address);
        participant.process = Some((number, process));
    }

    /// Injects one fault after the other, each into a process that has no other fault.
    async fn lane(&self, lane: u64, mishaps: &[Mishap], mut end: watch::Receiver<bool>) {
        let (mut chance, mut deck) = (self.chance(lane + 1), Deck::new(mishaps));
        while self.pause(0.1..1.5, &mut chance, &mut end).await {
            let Some(mishap) = deck.draw(&mut chance) else { return };
            let mut participant = self.participants[chance.random_range(0..self.participants.len())].lock().await;
            let time = self.time(&mut chance);
            self.count(mishap);
            match mishap {
                Mishap::ProcessKilled => {
                    let _up = self.is_up.read().await;
                    if let Some((process, killed)) = participant.process.take() {
                        let said = killed.kill_and_hear().await;
                        self.recorder.note(What::Died { process });
                        assert!(said.is_empty(), "process {process} failed before it was killed: {said:?}");
                    }
                    self.start(&mut participant).await;
                }
                Mishap::ProcessFrozen => {
                    if let Some((process, frozen)) = &participant.process {
                        let process = *process;
                        frozen.pause();
                        self.recorder.note(What::Frozen { process });
                        sleep(time).await;
                        frozen.resume();
                        self.recorder.note(What::Woken { process });
                    }
                }
                _ => {
                    let Some((_, proxy)) = &participant.front else {
                        panic!("{mishap} needs a proxy in front of the store")
                    };
                    spoil(proxy, mishap, &mut chance);
                    sleep(time).await;
                    proxy.heal();
                }
            }
        }
    }

    async fn server_lane(&self, mishaps: &[Mishap], mut end: watch::Receiver<bool>) {
        let Some(server) = self.server else {
            assert!(mishaps.is_empty(), "{mishaps:?} need a server that the arena owns");
            return;
        };
        let (mut chance, mut deck) = (self.chance(0), Deck::new(mishaps));
        while self.pause(0.5..5.0, &mut chance, &mut end).await {
            let Some(mishap) = deck.draw(&mut chance) else { return };
            let time = self.time(&mut chance);
            let _down = self.is_up.write().await;
            self.count(mishap);
            let down = now();
            self.recorder.note_at(down, What::Down);
            match mishap {
                Mishap::ServerPaused => {
                    server.pause().await;
                    sleep(time).await;
                    server.resume().await;
                }
                Mishap::DataLost => {
                    server.kill().await;
                    sleep(time / 4).await;
                    server.restart(Data::Lost).await;
                }
                _ => {
                    server.kill().await;
                    sleep(time).await;
                    server.restart(Data::Kept).await;
                }
            }
            let up = now();
            self.recorder.note_at(up, What::Up);
            if mishap == Mishap::ServerPaused && self.has_split_pauses {
                self.recorder.note(What::Split { since: down, until: up + self.workload.ttl });
            }
        }
    }

    /// Waits for a random number of TTLs, or for the end. Returns whether there is time for another fault.
    async fn pause(&self, ttls: Range<f64>, chance: &mut StdRng, end: &mut watch::Receiver<bool>) -> bool {
        let pause = self.workload.ttl.mul_f64(chance.random_range(ttls));
        timeout(pause, end.wait_for(|is_over| *is_over)).await.is_err()
    }

    /// The duration of a fault: mostly less than a TTL, sometimes up to two.
    fn time(&self, chance: &mut StdRng) -> Duration {
        let most = if chance.random_bool(0.7) { 0.6 } else { 2.0 };
        self.workload.ttl.mul_f64(chance.random_range(0.05..most))
    }

    fn chance(&self, lane: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(LANES + 1).wrapping_add(lane))
    }

    fn count(&self, mishap: Mishap) {
        *self.happened().entry(mishap).or_default() += 1;
    }

    fn happened(&self) -> MutexGuard<'_, BTreeMap<Mishap, u64>> {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Participant {
    /// Ends the process when it holds nothing and waits for nothing. A process that hangs is left to the history check.
    async fn finish(&mut self) {
        let Some((number, process)) = &mut self.process else { return };
        process.say("stop");
        if let Some(line) = process.hear_within(SERVED_WITHIN).await {
            assert_eq!(line, "done", "process {number} did not end properly");
        }
    }
}

fn spoil(proxy: &Proxy, mishap: Mishap, chance: &mut StdRng) {
    let ways = [Way::ToServer, Way::ToClient, Way::Both];
    let way = ways[chance.random_range(0..ways.len())];
    match mishap {
        Mishap::Cut => proxy.cut(),
        Mishap::Stalled => proxy.stall(way),
        Mishap::HalfOpen => proxy.lose(way),
        Mishap::Reordered => proxy.strand(),
        _ => proxy.slow(Duration::from_millis(chance.random_range(1..100))),
    }
}

impl fmt::Debug for Arena<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("address", &self.address)
            .field("workload", &self.workload)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    const TTL: Duration = Duration::from_secs(1);

    /// A server to which nothing happens.
    struct Unharmed;

    #[async_trait]
    impl Control for Unharmed {
        async fn pause(&self) {}

        async fn resume(&self) {}

        async fn kill(&self) {}

        async fn restart(&self, _data: Data) {}
    }

    #[tokio::test(start_paused = true)]
    async fn splits_last_a_ttl_after_their_pause() {
        let workload =
            Workload { ttl: TTL, hold: TTL, long_holds: 0, tasks: 1, mutexes: 1, rw_locks: 0, semaphores: 0 };
        let arena = Arena::new(workload, Program::this_one(), "no URL", Some(&Unharmed), 0, 1).await;
        let arena = arena.with_split_pauses();
        let mishaps = [Mishap::ServerPaused, Mishap::ServerKilled];
        let end = watch::Sender::new(false);
        let time = async {
            sleep(TTL * 60).await;
            end.send_replace(true);
        };
        tokio::join!(arena.server_lane(&mishaps, end.subscribe()), time);
        let entries = arena.recorder.entries().unwrap();
        let splits = entries.windows(3).filter(|three| matches!(three[2].what, What::Split { .. }));
        let are_right: Vec<bool> =
            splits.map(|three| three[2].what == What::Split { since: three[0].at, until: three[1].at + TTL }).collect();
        let [pauses, kills] = mishaps.map(|mishap| usize::try_from(arena.happened()[&mishap]).unwrap());
        assert!(pauses > 0 && kills > 0);
        assert_eq!(are_right, vec![true; pauses]);
    }
}
