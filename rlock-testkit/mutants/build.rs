//! Copies the reference backend and the state machine of a lease into this crate. Each mutant of `mutants.txt` and of
//! `machine.txt` can be switched on in the copies.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::{env, fs};

const REFERENCE: &str = "../../rlock-core/src/memory.rs";
const MACHINE: &str = "../../rlock-core/src/lease";
const TABLE: &str = "mutants.txt";
const MACHINE_TABLE: &str = "machine.txt";

/// A block of the table.
#[derive(Default)]
struct Mutant {
    name: String,
    cases: Vec<String>,
    target: Target,
}

/// The code that a mutant changes.
enum Target {
    /// One or more pieces of the reference.
    Reference(Vec<Hunk>),
    /// A file of this crate, which checks for the mutant by name.
    File(String),
}

impl Default for Target {
    fn default() -> Self {
        Self::Reference(Vec::new())
    }
}

/// The lines before a change, the original, the mutated text, and the lines after it.
#[derive(Default)]
struct Hunk {
    before: String,
    original: String,
    mutated: String,
    after: String,
}

fn main() {
    for input in [REFERENCE, MACHINE, TABLE, MACHINE_TABLE, "src"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let out = env::var_os("OUT_DIR").expect("cargo says where to write");
    let write = |file: &str, text: String| fs::write(Path::new(&out).join(file), text).expect("it can be written");
    let mutants = parse(TABLE);
    write("memory.rs", mutate(&reference(), &mutants));
    write("table.rs", listed(&mutants));
    let mutants = parse(MACHINE_TABLE);
    write("machine.rs", mutate(&machine(), &mutants));
    write("machine_table.rs", listed(&mutants));
}

/// The source of the reference, as a module of this crate.
fn reference() -> String {
    let source = source(Path::new(REFERENCE));
    assert_eq!(source.matches("use crate::{").count(), 1, "{REFERENCE} has one import of its crate");
    source.replace("use crate::{", "use rlock_core::{")
}

/// The source of the state machine, as one module of this crate, with its model and without its tests.
fn machine() -> String {
    let text = module(&Path::new(MACHINE).join("mod.rs"));
    text.replace("crate::clock::", "rlock_core::")
        .replace("crate::contract::", "rlock_core::")
        .replace("crate::lease::", "crate::machine::copy::")
}

/// The source of the module in `file`, with its submodules inline.
fn module(file: &Path) -> String {
    let folder = if file.ends_with("mod.rs") { file.with_file_name("") } else { file.with_extension("") };
    source(file).lines().fold(String::new(), |text, line| {
        let name = line.strip_prefix("mod ").and_then(|line| line.strip_suffix(';'));
        match (line, name) {
            ("#[cfg(test)]" | "mod tests;", _) => text,
            (_, Some(name)) => {
                let files = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
                let file = files.iter().find(|file| file.exists()).expect("a module has a file");
                format!("{text}mod {name} {{\n{}\n}}\n", module(file))
            }
            _ => format!("{text}{line}\n"),
        }
    })
}

/// A source file without indentation, so that snippets of several lines are easy to find, and without its head comment.
fn source(path: &Path) -> String {
    let source = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let kept = source.lines().map(str::trim).filter(|line| !line.starts_with("//!"));
    kept.collect::<Vec<_>>().join("\n")
}

fn parse(path: &str) -> Vec<Mutant> {
    let table = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut mutants = Vec::<Mutant>::new();
    let without_comments = table.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    for block in without_comments.split("\n\n").map(|block| block.trim_matches('\n')).filter(|block| !block.is_empty())
    {
        let mutant = block_of(block);
        let is_new = mutants.iter().all(|other| other.name != mutant.name);
        assert!(is_new, "{path}: there are two mutants {}", mutant.name);
        mutants.push(mutant);
    }
    mutants
}

fn block_of(block: &str) -> Mutant {
    let mut lines = block.lines();
    let name = lines.next().unwrap_or_default().trim().to_owned();
    let mut mutant = Mutant { name, ..Mutant::default() };
    let mut hunks = vec![<[Vec<&str>; 4]>::default()];
    for line in lines {
        let hunk = hunks.last_mut().expect("it begins with one");
        if let Some(cases) = line.strip_prefix("caught by ") {
            mutant.cases.extend(cases.split(", ").map(|case| case.trim().to_owned()));
        } else if let Some(file) = line.strip_prefix("in ") {
            mutant.target = Target::File(file.to_owned());
        } else if line == "and" {
            hunks.push(Default::default());
        } else if let Some(line) = line.strip_prefix('-') {
            hunk[1].push(line.trim());
        } else if let Some(line) = line.strip_prefix('+') {
            hunk[2].push(line.trim());
        } else if let Some(line) = line.strip_prefix("  ") {
            hunk[if hunk[1].is_empty() { 0 } else { 3 }].push(line.trim());
        } else {
            panic!("mutant {}: a line of no known kind: {line:?}", mutant.name);
        }
    }
    let name = &mutant.name;
    assert!(!mutant.cases.is_empty(), "mutant {name}: no case has to catch it");
    match &mut mutant.target {
        Target::Reference(pieces) => {
            for hunk in hunks {
                assert!(!hunk[1].is_empty(), "mutant {name}: it has neither a snippet nor a file");
                let [before, original, mutated, after] = hunk.map(|lines| lines.join("\n"));
                pieces.push(Hunk { before, original, mutated, after });
            }
        }
        Target::File(file) => {
            let source = fs::read_to_string(&file).unwrap_or_else(|error| panic!("mutant {name}: {file}: {error}"));
            assert!(source.contains(&format!("is_on({name:?})")), "mutant {name}: {file} never checks for it");
        }
    }
    mutant
}

/// Each choice by its range, with its arms. Sorted by start; a longer range comes before a shorter one.
type Sites = BTreeMap<(usize, Reverse<usize>), Vec<String>>;

/// Inserts a choice into the reference wherever a mutant changes it.
fn mutate(reference: &str, mutants: &[Mutant]) -> String {
    let mut sites = Sites::new();
    for Mutant { name, target, .. } in mutants {
        let Target::Reference(hunks) = target else { continue };
        for hunk in hunks {
            let Range { start, end } = find(reference, name, hunk);
            let arm = format!("{name:?} => {{ {} }}", hunk.mutated);
            sites.entry((start, Reverse(end))).or_default().push(arm);
        }
    }
    rewrite(reference, 0..reference.len(), &mut sites)
}

/// The range of the original, which has to occur exactly once.
fn find(reference: &str, name: &str, hunk: &Hunk) -> Range<usize> {
    let joined = |parts: [&str; 2]| parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
    let until_change = joined([&hunk.before, &hunk.original]);
    let whole = joined([&until_change, &hunk.after]);
    let mut found = reference.match_indices(&whole);
    let (Some((at, _)), None) = (found.next(), found.next()) else {
        let times = reference.matches(&whole).count();
        panic!("mutant {name}: its snippet occurs {times} times, not once: adapt the table\n{whole}");
    };
    let end = at + until_change.len();
    end - hunk.original.len()..end
}

/// Writes `range` with a choice at each site in it. A site may lie inside the original of another.
fn rewrite(reference: &str, range: Range<usize>, sites: &mut Sites) -> String {
    let (mut text, mut at) = (String::new(), range.start);
    while let Some(site) = sites.first_entry().filter(|site| site.key().0 < range.end) {
        let ((start, Reverse(end)), arms) = site.remove_entry();
        let arms = arms.join("\n");
        assert!(end <= range.end, "the snippets of two mutants overlap, one of them:\n{arms}");
        let original = &reference[start..end];
        let rest = rewrite(reference, start..end, sites);
        let choice = format!("match crate::mutant() {{\n{arms}\n_ => {{ {rest} }}\n}}");
        let is_statement = original.ends_with([';', '}']);
        text += &reference[at..start];
        text += &if is_statement { choice } else { format!("({choice})") };
        at = end;
    }
    text + &reference[at..range.end]
}

/// Writes the table as a Rust expression.
fn listed(mutants: &[Mutant]) -> String {
    let row = |it: &Mutant| format!("Mutant {{ name: {:?}, cases: &{:?} }},", it.name, it.cases);
    format!("&[{}]", mutants.iter().map(row).collect::<Vec<_>>().join("\n"))
}
