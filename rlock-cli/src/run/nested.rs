//! An rlock run inside another one. It must not wait for a lock that the outer one holds until the inner one ends.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use nix::unistd::Pid;
use rlock::ResourceName;

use crate::args::{LockArgs, Store};
use crate::keep::name_of_namespace;

/// The locks of the outer rlock runs, one per line: `KEEPER KIND STORE NAME`. A keeper is named by its process id, or
/// by the innermost PID namespace below it, whose processes do not see the keeper. A run in a PID namespace that the
/// program makes by itself sees neither, so it does not know the outer locks.
const VARIABLE: &str = "RLOCK_INSIDE";

/// The variable for the program, with the locks of this run and of the outer ones. The program runs below `keeper`, in
/// `namespace` if it has a PID namespace of its own.
pub(super) fn environment(args: &LockArgs, keeper: Pid, namespace: Option<&str>) -> (String, String) {
    let kind = if is_alone(args) { "alone" } else { "beside" };
    let store = fingerprint(&args.store);
    let own = args.names().into_iter().map(|name| format!("{kind} {store} {name}"));
    let outer = env::var(VARIABLE).unwrap_or_default();
    let lines: Vec<_> = match namespace {
        None => own.map(|lock| format!("{keeper} {lock}")).chain(outer.lines().map(str::to_owned)).collect(),
        Some(namespace) => {
            let outer = outer.lines().filter_map(|line| line.split_once(' '));
            let above = outer.filter(|(keeper, _)| is_ancestor(keeper)).map(|(_, lock)| lock.to_owned());
            own.chain(above).map(|lock| format!("{namespace} {lock}")).collect()
        }
    };
    (VARIABLE.into(), lines.join("\n"))
}

/// The first lock that an outer rlock holds, so that waiting for it would never end.
pub(super) fn held_outside(args: &LockArgs) -> Option<ResourceName> {
    let names = args.names();
    names.into_iter().find(|name| !args.once && is_held(name, &args.store, is_alone(args)))
}

/// Whether an outer rlock holds `name` in a way that excludes a run that wants it `alone`, or one that shares it.
pub(crate) fn is_held(name: &ResourceName, store: &Store, alone: bool) -> bool {
    let variable = env::var(VARIABLE).unwrap_or_default();
    let store = fingerprint(store);
    variable.lines().any(|line| {
        let mut words = line.splitn(4, ' ');
        let (Some(keeper), Some(kind), Some(of), Some(outer)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return false;
        };
        outer == name.as_str() && of == store && (alone || kind == "alone") && is_ancestor(keeper)
    })
}

fn is_alone(args: &LockArgs) -> bool {
    !args.shared && args.slots.is_none_or(|slots| slots == 1)
}

/// A hash of the URL. It does not reveal a password.
fn fingerprint(store: &Store) -> String {
    let mut hasher = DefaultHasher::new();
    store.url().hash(&mut hasher);
    format!("{:08x}", hasher.finish() >> 32)
}

/// Whether the keeper is an ancestor of this process. A daemon that has outlived its rlock run still has the variable,
/// and so has a job that a program in a PID namespace gave to a scheduler outside.
fn is_ancestor(keeper: &str) -> bool {
    if name_of_namespace("self").is_ok_and(|own| own == keeper) {
        return true;
    }
    let parent = |pid: String| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        fields.split(' ').nth(1).map(str::to_owned)
    };
    std::iter::successors(Some("self".to_owned()), |pid| parent(pid.clone())).any(|pid| pid == keeper)
}
