//! CPU time and memory of processes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// The CPU time of this process so far: all its threads, in user mode and in the system.
///
/// # Panics
///
/// Panics if the system does not report it.
pub fn of_this_process() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// The resident memory of this process in bytes; `None` where `/proc` does not report it.
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The CPU time so far of `root` and all its descendants, with the children that they have waited for, to a hundredth
/// of a second. `None` if there is no such process, or no `/proc`.
pub fn of_tree(root: u32) -> Option<Duration> {
    of_trees(&[root])
}

/// The CPU time so far of the trees of all `roots`, as of [`of_tree`]. A process counts once, also if it is in several
/// trees. `None` without a root, or if one is gone.
pub fn of_trees(roots: &[u32]) -> Option<Duration> {
    Some(Duration::from_millis(ticks_of(&processes(), roots)? * 10))
}

/// The processes that listen on the ports of all servers in `url`, each once. None if one of them does not run on this
/// host, or if `/proc` does not show it to this user.
pub fn servers_of(url: &str) -> Vec<u32> {
    let servers: Option<BTreeSet<u32>> =
        local_ports(url).and_then(|ports| ports.into_iter().map(listener_on).collect());
    servers.unwrap_or_default().into_iter().collect()
}

/// The ticks of all processes in the trees of `roots`.
fn ticks_of(stats: &HashMap<u32, Stat>, roots: &[u32]) -> Option<u64> {
    if roots.is_empty() {
        return None;
    }
    let mut tree: HashSet<u32> = roots.iter().copied().collect();
    loop {
        let is_new = |id: u32, stat: &Stat| tree.contains(&stat.parent) && !tree.contains(&id);
        let children: Vec<u32> = stats.iter().filter(|&(&id, stat)| is_new(id, stat)).map(|(&id, _)| id).collect();
        if children.is_empty() {
            return tree.iter().map(|id| Some(stats.get(id)?.ticks)).sum();
        }
        tree.extend(children);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Hundredths of a second of CPU time: the process' own, and that of the children that it has waited for.
    ticks: u64,
}

impl Stat {
    /// Parses `pid (name) state ppid ...`, the format of proc(5). The name may contain any character.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok());
        Some(Self { parent: fields.get(1)?.parse().ok()?, ticks: ticks.sum::<Option<u64>>()? })
    }
}

fn processes() -> HashMap<u32, Stat> {
    let read = |id: u32| Some((id, Stat::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?));
    ids().into_iter().filter_map(read).collect()
}

fn ids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The ports of all servers in `url`, if they are on this host. Sentinels are not the servers that keep the locks.
fn local_ports(url: &str) -> Option<Vec<u16>> {
    let (scheme, rest) = url.split_once("://")?;
    let default = match scheme.to_ascii_lowercase().as_str() {
        "redis" | "rediss" | "redis-cluster" | "rediss-cluster" => 6379,
        "valkey" | "valkeys" | "valkey-cluster" | "valkeys-cluster" => 6379,
        "etcd" | "etcds" => 2379,
        "postgres" | "postgresql" => 5432,
        _ => return None,
    };
    let authority = rest.split(['/', '?']).next()?;
    let servers = authority.rsplit('@').next()?.split(',');
    servers.map(|server| local_port(server, default)).collect()
}

/// The port of a server on this host.
fn local_port(server: &str, default: u16) -> Option<u16> {
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (server, default),
    };
    let is_here = host == "localhost" || host == "[::1]" || host.starts_with("127.");
    is_here.then_some(port)
}

/// The process that listens on `port`. If several do, the ancestor of the others.
fn listener_on(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let sockets: HashSet<_> = tables.iter().flat_map(|table| listening(table, port)).collect();
    let holds_one = |id: &u32| {
        let Ok(files) = fs::read_dir(format!("/proc/{id}/fd")) else { return false };
        files.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).any(|target| {
            let socket = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']'));
            socket.is_some_and(|inode| sockets.contains(inode))
        })
    };
    let holders: Vec<_> = if sockets.is_empty() { Vec::new() } else { ids().into_iter().filter(holds_one).collect() };
    let stats = processes();
    let is_first = |id: &&u32| stats.get(id).is_some_and(|stat| !holders.contains(&stat.parent));
    // The proxy of a container engine listens in place of the server in the container.
    let is_server =
        |id: &&u32| !fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.contains("proxy"));
    holders.iter().filter(is_first).find(is_server).copied()
}

/// The inodes of the sockets in `table` that listen on `port`.
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTENS: &str = "0A";
    let listening = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let at = fields.get(1)?.rsplit(':').next()?;
        let is_it = *fields.get(3)? == LISTENS && u16::from_str_radix(at, 16) == Ok(port);
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    });
    listening.collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn reaped_children_count_as_their_parent() {
        let line = "12 (a ) b) S 7 12 12 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 5 6 7";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 7, ticks: 127 }));
        assert_eq!(Stat::parse("12 (a) S 7"), None);
    }

    #[test]
    fn process_in_several_trees_counts_once() {
        let stat = |parent, ticks| Stat { parent, ticks };
        let stats = HashMap::from([(1, stat(0, 1)), (2, stat(1, 10)), (3, stat(2, 100)), (4, stat(0, 1_000))]);
        let ticks = |roots: &[u32]| ticks_of(&stats, roots);
        assert_eq!((ticks(&[2]), ticks(&[2, 2]), ticks(&[3, 1])), (Some(110), Some(110), Some(111)));
        assert_eq!((ticks(&[1, 4]), ticks(&[]), ticks(&[1, 5])), (Some(1_111), None, None));
    }

    #[test]
    fn ports_of_this_host_are_read_from_urls() {
        assert_eq!(local_ports("redis://user:p@ss@127.0.0.1:7000/2?x=1"), Some(vec![7000]));
        assert_eq!(local_ports("postgres://localhost/app"), Some(vec![5432]));
        assert_eq!(local_ports("etcd://localhost:1,127.0.0.1,[::1]:3"), Some(vec![1, 2379, 3]));
        assert_eq!(local_ports("etcd://localhost:1,elsewhere:2"), None);
        assert_eq!(local_ports("redis://[::1]"), Some(vec![6379]));
        assert_eq!(local_ports("redis://example.org:7000"), None);
        assert_eq!(local_ports("redis-sentinel://localhost/main"), None);
        assert_eq!(local_ports("sqlite:/a/b"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn listener_is_found_by_its_port() {
        let listeners = ["127.0.0.1:0"; 2].map(|address| TcpListener::bind(address).unwrap());
        let [one, other] = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        let (id, url) = (std::process::id(), format!("etcd://127.0.0.1:{one},127.0.0.1:{other}"));
        assert_eq!(servers_of(&url), [id]);
        let [listener, _] = listeners;
        drop(listener);
        assert!(servers_of(&url).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn cpu_time_grows_with_work() {
        let before = of_this_process();
        while of_this_process() < before + Duration::from_millis(30) {}
        assert!(of_tree(std::process::id()).unwrap() >= Duration::from_millis(20));
        assert!(resident_bytes().unwrap() > 100_000);
        assert_eq!(of_tree(u32::MAX), None);
        assert!(of_trees(&[std::process::id()]).unwrap() >= Duration::from_millis(20));
        assert_eq!((of_trees(&[]), of_trees(&[std::process::id(), u32::MAX])), (None, None));
    }
}
