//! Random trees of processes, whose guardians and members are killed and stopped at random: nothing of a tree is left
//! when the next holder has the lock. `scripts/storm` runs a thousand rounds.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::Server;
use crate::support::{Folder, Process, Rlock, children_of, unique, until};

const TTL: &str = "2s";

/// The environment variable that marks the tree of a program: every member inherits it.
const MARK: &str = "RLOCK_TEST_STORM";

#[test]
fn no_process_runs_beside_the_next_holder() {
    let number = |variable: &str| env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let rounds = number("RLOCK_STORM_ROUNDS").unwrap_or(8);
    let seed = number("RLOCK_TEST_SEED").unwrap_or_else(rand::random);
    println!("RLOCK_TEST_SEED={seed}");
    let server = Server::start();
    let has_namespaces = has_namespaces(&server);
    let pulse = Pulse::start();
    let workers = rounds.min(4);
    // The number of examined rounds, and of all rounds, of each kind.
    let counts = Mutex::new(BTreeMap::<String, [u64; 2]>::new());
    thread::scope(|scope| {
        for worker in 0..workers {
            let (server, pulse, counts) = (&server, &pulse, &counts);
            scope.spawn(move || {
                for round in (worker..rounds).step_by(usize::try_from(workers).expect("they are few")) {
                    let (kind, is_examined) = run_round(server, pulse, seed.wrapping_add(round), has_namespaces);
                    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                    let [examined, all] = counts.entry(kind).or_default();
                    *examined += u64::from(is_examined);
                    *all += 1;
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let examined: u64 = counts.values().map(|[examined, _]| examined).sum();
    println!("{examined} of {rounds} rounds examined");
    for (kind, [examined, all]) in &counts {
        println!("{examined:6} of {all} {kind}");
    }
    assert!(examined > 0, "this host is too slow for a TTL of {TTL}");
    assert!(rounds < 100 || examined * 10 >= rounds * 9, "this host is too slow for a TTL of {TTL}: {counts:?}");
}

/// A host that lets a process wait for this long may let the keeper kill too late, for a TTL of [`TTL`].
const HOST_DELAY: Duration = Duration::from_millis(100);

/// Measures how long the host lets a process wait for a processor.
#[derive(Debug)]
struct Pulse(Mutex<Beats>);

#[derive(Debug)]
struct Beats {
    last: Instant,
    delays: Vec<(Instant, Duration)>,
}

impl Pulse {
    const BEAT: Duration = Duration::from_millis(5);

    fn start() -> Arc<Self> {
        let pulse = Arc::new(Self(Mutex::new(Beats { last: Instant::now(), delays: Vec::new() })));
        let beating = Arc::downgrade(&pulse);
        thread::spawn(move || {
            while let Some(pulse) = beating.upgrade() {
                pulse.beat();
                drop(pulse);
                thread::sleep(Self::BEAT);
            }
        });
        pulse
    }

    fn beat(&self) {
        let (mut beats, now) = (self.lock(), Instant::now());
        let delay = now.duration_since(beats.last).saturating_sub(Self::BEAT);
        if delay > Self::BEAT {
            beats.delays.push((now, delay));
        }
        beats.last = now;
    }

    fn worst_since(&self, begun: Instant) -> Duration {
        self.beat();
        let beats = self.lock();
        let delays = beats.delays.iter().rev().take_while(|(at, _)| *at >= begun);
        delays.map(|(_, delay)| *delay).max().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Beats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the system lets `rlock` make PID namespaces.
fn has_namespaces(server: &Server) -> bool {
    let probe = Rlock::on(server, &["run", &unique("probe"), "--pid-namespace", "--", "true"]).exit();
    let has_namespaces = probe.status == Some(0);
    assert!(has_namespaces || probe.status == Some(71), "{}", probe.stderr);
    has_namespaces
}

/// The guardians that fail, and their failures.
#[derive(Debug, Clone, Copy)]
enum Failure {
    KilledRlock,
    StoppedRlock,
    /// It is continued later, perhaps after the loss of the lock.
    PausedRlock,
    KilledKeeper,
    StoppedKeeper,
    KilledBoth,
    StoppedBoth,
    KilledRlockAndStoppedKeeper,
    StoppedRlockAndKilledKeeper,
    None,
}

impl Failure {
    const OF_ONE: &[Self] = &[
        Self::KilledRlock,
        Self::StoppedRlock,
        Self::PausedRlock,
        Self::KilledKeeper,
        Self::StoppedKeeper,
        Self::None,
    ];
    /// Without a PID namespace, a part of the tree may survive these.
    const OF_BOTH: &[Self] =
        &[Self::KilledBoth, Self::StoppedBoth, Self::KilledRlockAndStoppedKeeper, Self::StoppedRlockAndKilledKeeper];

    /// The signals to `rlock` and to its keeper.
    fn signals(self) -> [Option<Signal>; 2] {
        use Signal::{SIGKILL, SIGSTOP};
        match self {
            Self::KilledRlock => [Some(SIGKILL), None],
            Self::StoppedRlock | Self::PausedRlock => [Some(SIGSTOP), None],
            Self::KilledKeeper => [None, Some(SIGKILL)],
            Self::StoppedKeeper => [None, Some(SIGSTOP)],
            Self::KilledBoth => [Some(SIGKILL), Some(SIGKILL)],
            Self::StoppedBoth => [Some(SIGSTOP), Some(SIGSTOP)],
            Self::KilledRlockAndStoppedKeeper => [Some(SIGKILL), Some(SIGSTOP)],
            Self::StoppedRlockAndKilledKeeper => [Some(SIGSTOP), Some(SIGKILL)],
            Self::None => [None, None],
        }
    }
}

/// Returns the kind of the round, and whether it was examined: on a slow host the lock may be lost before the tree is
/// hurt, or the keeper may be delayed and leave survivors.
fn run_round(server: &Server, pulse: &Pulse, seed: u64, has_namespaces: bool) -> (String, bool) {
    let begun = Instant::now();
    let mut chance = StdRng::seed_from_u64(seed);
    let is_in_namespace = has_namespaces && chance.random_bool(0.4);
    let failures = if is_in_namespace && chance.random_bool(0.6) { Failure::OF_BOTH } else { Failure::OF_ONE };
    let failure = *failures.choose(&mut chance).expect("there are some");
    let kind = format!("{failure:?}{}", if is_in_namespace { " in a namespace" } else { "" });
    let folder = Folder::new();
    let (name, mark) = (unique("storm"), unique("mark"));
    let nodes = plant(&folder, &mut chance);
    let script = folder.script(&format!("export D; exec env {MARK}={mark} sh $D/node-0"));
    let mut options = vec!["--ttl", TTL, "--kill-after", "200ms", "--json"];
    options.extend(is_in_namespace.then_some("--pid-namespace"));
    // At a terminal, `set -m` in a background group would stop the tree, and rlock with the whole test.
    let mut first = Rlock::run_script_without_terminal(server, &name, &options, &script);
    first.hear("started");
    let keeper = until("the keeper", || children_of(first.pid()).first().copied());
    let mut next = Rlock::on(server, &["run", &name, "--", "cat"]);
    let (_, line) = next.hear_any(&["waiting", "acquired"]);
    let is_waiting = line.contains("waiting");
    let story = format!("RLOCK_TEST_SEED={seed} RLOCK_STORM_ROUNDS=1, {kind}");
    if chance.random_bool(0.7) {
        let is_whole = || folder.read("pids").matches('\n').count() == nodes;
        until(&format!("{story}: {nodes} process ids"), || (is_whole() || first.has_ended()).then_some(()));
    }
    nap(&mut chance);
    let is_examined = is_waiting && !first.has_ended();
    if is_examined {
        hurt(&first, keeper, failure, &mark, &mut chance);
    }
    if is_waiting {
        next.hear("acquired");
    }
    let survivors = described(&mark);
    let root = fs::read_to_string(folder.path("node-0")).expect("the folder is there");
    let delay = pulse.worst_since(begun);
    let is_fit = delay < HOST_DELAY;
    assert!(
        survivors.is_empty() || !is_fit,
        "{story}: {survivors:?} after a delay of {delay:?}\n{root}\n{}",
        first.heard()
    );
    next.exit().assert(0, &["released"]);
    if !first.has_ended() {
        first.signal_if_alive(Signal::SIGCONT);
        first.signal_if_alive(Signal::SIGTERM);
    }
    until(&story, || first.has_ended().then_some(()));
    assert_eq!(described(&mark), Vec::<String>::new(), "{story}");
    (kind, is_examined && (is_fit || survivors.is_empty()))
}

/// Hurts members of the tree, and its guardians in any order.
fn hurt(first: &Rlock, keeper: Pid, failure: Failure, mark: &str, chance: &mut StdRng) {
    hurt_members(mark, chance);
    let mut guardians: Vec<_> = [first.pid(), keeper].into_iter().zip(failure.signals()).collect();
    if chance.random_bool(0.5) {
        guardians.reverse();
    }
    for (guardian, signal) in guardians {
        let _dead_already = signal.map(|signal| kill(guardian, signal));
    }
    nap(chance);
    hurt_members(mark, chance);
    match failure {
        Failure::StoppedKeeper | Failure::None => first.signal(Signal::SIGTERM),
        Failure::PausedRlock => {
            thread::sleep(Duration::from_millis(chance.random_range(1500..2500)));
            first.signal(Signal::SIGCONT);
            first.signal(Signal::SIGTERM);
        }
        _ => {}
    }
}

fn nap(chance: &mut StdRng) {
    thread::sleep(Duration::from_millis(chance.random_range(0..60)));
}

/// Writes a tree of scripts, and returns how many processes write down their process ids.
fn plant(folder: &Folder, chance: &mut StdRng) -> usize {
    const LAUNCHES: [&str; 6] = [
        "sh $D/node-CHILD &",
        "setsid sh $D/node-CHILD &",
        "(setsid sh $D/node-CHILD &)",
        "(sh -c 'sh $D/node-CHILD &' &)",
        "timeout 600 sh $D/node-CHILD &",
        "set -m; sh $D/node-CHILD & set +m",
    ];
    const ENDS: [&str; 5] = ["exec sleep 600", "while :; do sleep 0.01; done", "sleep 600", "wait", "exit 0"];
    let nodes = chance.random_range(1..8_usize);
    for node in 0..nodes {
        let mut script = String::new();
        if chance.random_bool(0.4) {
            script.push_str("trap '' TERM HUP INT\n");
        }
        // Every node but the first has one parent, of a lower number.
        for child in (node + 1..nodes).filter(|child| (child - 1) / 2 == node) {
            let launch = LAUNCHES.choose(chance).expect("there are some");
            writeln!(script, "{}", launch.replace("CHILD", &child.to_string())).expect("a string takes everything");
        }
        let lasting = if node == nodes - 1 { 3 } else { ENDS.len() }; // the last keeps the lock
        let end = ENDS[..lasting].choose(chance).expect("there are some");
        writeln!(script, "echo $$ >> $D/pids\n{end}").expect("a string takes everything");
        fs::write(folder.path(&format!("node-{node}")), script).expect("the folder is there");
    }
    nodes
}

/// Kills or stops some members of the tree. Spares a process that has reused a member's process id.
fn hurt_members(mark: &str, chance: &mut StdRng) {
    for pid in marked(mark) {
        if chance.random_bool(0.25) && is_marked(pid, mark) {
            let signal = if chance.random_bool(0.5) { Signal::SIGKILL } else { Signal::SIGSTOP };
            let _dead_already = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// The living processes with this mark.
fn marked(mark: &str) -> Vec<i32> {
    let folders = fs::read_dir("/proc").expect("it is mounted").flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| is_marked(*pid, mark) && Process::is_running(Pid::from_raw(*pid))).collect()
}

/// The living processes with this mark, and their commands.
fn described(mark: &str) -> Vec<String> {
    let command = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    marked(mark).into_iter().map(|pid| format!("{pid}: {}", command(pid))).collect()
}

fn is_marked(pid: i32, mark: &str) -> bool {
    let entry = format!("{MARK}={mark}\0");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.windows(entry.len()).any(|window| window == entry.as_bytes())
}
