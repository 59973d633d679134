//! Random trees of processes, whose guardians and members are killed and stopped at random: nothing of a tree is left
//! when the next holder has the lock. `scripts/storm` runs a thousand rounds.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

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
    let workers = rounds.min(4);
    let hurt = AtomicU64::new(0);
    thread::scope(|scope| {
        for worker in 0..workers {
            let (server, hurt) = (&server, &hurt);
            scope.spawn(move || {
                for round in (worker..rounds).step_by(usize::try_from(workers).expect("they are few")) {
                    let is_hurt = run_round(server, seed.wrapping_add(round));
                    hurt.fetch_add(is_hurt.into(), Ordering::Relaxed);
                }
            });
        }
    });
    assert!(hurt.into_inner() > 0, "this host is too slow for a TTL of {TTL}");
}

/// The guardian that fails, and its failure.
#[derive(Debug, Clone, Copy)]
enum Failure {
    KilledRlock,
    StoppedRlock,
    /// It is continued later, perhaps after the loss of the lock.
    PausedRlock,
    KilledKeeper,
    StoppedKeeper,
    None,
}

/// Returns whether the tree was hurt: on a slow host the lock may be lost before, and the tree ends.
fn run_round(server: &Server, seed: u64) -> bool {
    const FAILURES: [Failure; 6] = [
        Failure::KilledRlock,
        Failure::StoppedRlock,
        Failure::PausedRlock,
        Failure::KilledKeeper,
        Failure::StoppedKeeper,
        Failure::None,
    ];
    let mut chance = StdRng::seed_from_u64(seed);
    let folder = Folder::new();
    let (name, mark) = (unique("storm"), unique("mark"));
    let nodes = plant(&folder, &mut chance);
    let script = folder.script(&format!("export D; exec env {MARK}={mark} sh $D/node-0"));
    let options = ["--ttl", TTL, "--kill-after", "200ms", "--json"];
    // At a terminal, `set -m` in a background group would stop the tree, and rlock with the whole test.
    let mut first = Rlock::run_script_without_terminal(server, &name, &options, &script);
    first.hear("started");
    let keeper = until("the keeper", || children_of(first.pid()).first().copied());
    let mut next = Rlock::on(server, &["run", &name, "--", "cat"]);
    let (_, line) = next.hear_any(&["waiting", "acquired"]);
    let is_waiting = line.contains("waiting");
    let failure = *FAILURES.choose(&mut chance).expect("there are some");
    let story = format!("RLOCK_TEST_SEED={seed} RLOCK_STORM_ROUNDS=1, {failure:?}");
    if chance.random_bool(0.7) {
        let is_whole = || folder.read("pids").matches('\n').count() == nodes;
        until(&format!("{story}: {nodes} process ids"), || (is_whole() || first.has_ended()).then_some(()));
    }
    nap(&mut chance);
    let is_hurt = is_waiting && !first.has_ended();
    if is_hurt {
        hurt(&first, keeper, failure, (&folder, &mark), &mut chance);
    }
    if is_waiting {
        next.hear("acquired");
    }
    let survivors = marked(&mark);
    assert!(survivors.is_empty(), "{story}: {survivors:?}\n{}", fs::read_to_string(folder.path("node-0")).unwrap());
    next.exit().assert(0, &["released"]);
    if !first.has_ended() {
        first.signal_if_alive(Signal::SIGCONT);
        first.signal_if_alive(Signal::SIGTERM);
    }
    until(&story, || first.has_ended().then_some(()));
    assert_eq!(marked(&mark), Vec::<String>::new(), "{story}");
    is_hurt
}

/// Hurts members of the tree and one of its guardians.
fn hurt(first: &Rlock, keeper: Pid, failure: Failure, (folder, mark): (&Folder, &str), chance: &mut StdRng) {
    hurt_members(folder, mark, chance);
    match failure {
        Failure::KilledRlock => first.signal(Signal::SIGKILL),
        Failure::StoppedRlock | Failure::PausedRlock => first.signal(Signal::SIGSTOP),
        Failure::KilledKeeper => drop(kill(keeper, Signal::SIGKILL)),
        Failure::StoppedKeeper => drop(kill(keeper, Signal::SIGSTOP)),
        Failure::None => {}
    }
    nap(chance);
    hurt_members(folder, mark, chance);
    match failure {
        Failure::StoppedKeeper | Failure::None => first.signal(Signal::SIGTERM),
        Failure::PausedRlock => {
            thread::sleep(Duration::from_millis(chance.random_range(1500..2500)));
            first.signal(Signal::SIGCONT);
            first.signal(Signal::SIGTERM);
        }
        Failure::KilledRlock | Failure::StoppedRlock | Failure::KilledKeeper => {}
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
fn hurt_members(folder: &Folder, mark: &str, chance: &mut StdRng) {
    for pid in folder.read("pids").lines().filter_map(|line| line.parse().ok()) {
        if chance.random_bool(0.25) && is_marked(pid, mark) {
            let signal = if chance.random_bool(0.5) { Signal::SIGKILL } else { Signal::SIGSTOP };
            let _dead_already = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// The living processes with this mark, and their commands.
fn marked(mark: &str) -> Vec<String> {
    let folders = fs::read_dir("/proc").expect("it is mounted").flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<i32>().ok());
    let living = pids.filter(|pid| is_marked(*pid, mark)).filter(|pid| Process::is_running(Pid::from_raw(*pid)));
    living
        .map(|pid| format!("{pid}: {}", fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()))
        .collect()
}

fn is_marked(pid: i32, mark: &str) -> bool {
    let entry = format!("{MARK}={mark}\0");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.windows(entry.len()).any(|window| window == entry.as_bytes())
}
