//! The list of mutants.

use std::fs;

/// A block of the list.
#[derive(Default)]
pub(crate) struct Mutant {
    pub(crate) name: String,
    pub(crate) cases: Vec<String>,
    pub(crate) target: Target,
}

/// The code that a mutant changes.
pub(crate) enum Target {
    /// One or more pieces of the copied source.
    Copy(Vec<Hunk>),
    /// A file of this crate, which checks for the mutant by name.
    File(String),
}

impl Default for Target {
    fn default() -> Self {
        Self::Copy(Vec::new())
    }
}

/// The lines before a change, the original, the mutated text, and the lines after it.
#[derive(Default)]
pub(crate) struct Hunk {
    pub(crate) before: String,
    pub(crate) original: String,
    pub(crate) mutated: String,
    pub(crate) after: String,
}

/// Reads the list in the file `path`.
pub(crate) fn parse(path: &str) -> Vec<Mutant> {
    let list = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut mutants = Vec::<Mutant>::new();
    let without_comments = list.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
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
        Target::Copy(pieces) => {
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

/// Writes the list as a Rust expression.
pub(crate) fn listed(mutants: &[Mutant]) -> String {
    let row = |it: &Mutant| format!("Mutant {{ name: {:?}, cases: &{:?} }},", it.name, it.cases);
    format!("&[{}]", mutants.iter().map(row).collect::<Vec<_>>().join("\n"))
}
