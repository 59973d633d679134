//! The modules of a crate, and the modules that each of them needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The text of each module; the root of the crate has the empty name.
pub(crate) type Texts = BTreeMap<String, String>;

/// The modules that each module needs: those that it names, and those that it declares.
pub(crate) type Needs = BTreeMap<String, BTreeSet<String>>;

/// The modules of the crate whose folder this is.
pub(crate) fn modules_of(folder: &Path) -> Texts {
    let mut texts = Texts::new();
    read(&folder.join("src"), "", &mut texts);
    texts
}

fn read(folder: &Path, module: &str, texts: &mut Texts) {
    for entry in fs::read_dir(folder).expect("the sources can be listed") {
        let path = entry.expect("the sources can be listed").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("names of modules are text");
        let inner = if matches!(name, "lib" | "main" | "mod") { module.to_owned() } else { join(module, name) };
        if path.is_dir() {
            read(&path, &inner, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.insert(inner, fs::read_to_string(&path).expect("sources are text"));
        }
    }
}

pub(crate) fn needs_of(texts: &Texts) -> Needs {
    let exported = exports(&texts[""]);
    let mut needs = Needs::new();
    for (module, text) in texts.iter().filter(|(module, _)| !module.is_empty()) {
        let named = paths(&code(text), module).into_iter().filter_map(|path| resolve(&path, texts, &exported));
        let declared = texts.keys().filter(|other| other.rsplit_once("::").is_some_and(|(parent, _)| parent == module));
        let below = named.chain(declared.cloned()).filter(|other| other != module).collect();
        needs.insert(module.clone(), below);
    }
    needs
}

/// What the modules in one folder need of each other, with the modules inside them. The root of the crate has the empty
/// name.
pub(crate) fn siblings_in(folder: &str, needs: &Needs) -> Needs {
    let front = if folder.is_empty() { String::new() } else { format!("{folder}::") };
    let sibling = |module: &String| module.strip_prefix(&front).map(|rest| split_name(rest).0.to_owned());
    let mut merged = Needs::new();
    for (module, below) in needs {
        let Some(name) = sibling(module) else { continue };
        let below = below.iter().filter_map(sibling).filter(|other| *other != name);
        merged.entry(name.clone()).or_default().extend(below);
    }
    merged
}

/// The modules that are part of a circle, or between two circles.
pub(crate) fn circles(mut needs: Needs) -> Vec<String> {
    loop {
        let ends = ends(&needs);
        if ends.is_empty() {
            return needs.into_keys().collect();
        }
        for module in ends {
            needs.remove(&module);
        }
    }
}

/// The modules that need no other one, or that no other one needs.
fn ends(needs: &Needs) -> Vec<String> {
    let needed: BTreeSet<&String> = needs.values().flatten().collect();
    let is_end = |module: &String, below: &BTreeSet<String>| {
        !needed.contains(module) || !below.iter().any(|other| needs.contains_key(other))
    };
    needs.iter().filter(|(module, below)| is_end(module, below)).map(|(module, _)| module.clone()).collect()
}

/// `text` without its comments and its tests.
pub(crate) fn code(text: &str) -> String {
    let without_tests = text.split("mod tests {").next().unwrap_or_default();
    let lines: Vec<&str> = without_tests.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    lines.join("\n")
}

/// The paths in `code` that begin with `crate` or `super`, from the root of the crate.
fn paths(code: &str, module: &str) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let before = &code[..at];
            if before.ends_with(|last: char| is_in_name(last) || last == ':') || before.ends_with("(in ") {
                continue; // inside a longer path, or the scope of a visibility
            }
            let mut path: Vec<&str> = if root == "super::" { module.split("::").collect() } else { Vec::new() };
            let mut rest = &code[at..];
            loop {
                let (name, after) = split_name(rest);
                match name {
                    "super" => _ = path.pop(),
                    "crate" | "" => {}
                    _ => path.push(name),
                }
                rest = after;
                match rest.strip_prefix("::") {
                    Some(deeper) if !name.is_empty() => rest = deeper,
                    _ => break,
                }
            }
            if root == "super::" && rest.starts_with('$') {
                continue; // a macro, which names a sibling
            }
            let front = path.join("::");
            match rest.strip_prefix('{').and_then(|group| group.split_once('}')) {
                Some((group, _)) => found.extend(group.split(',').map(|one| join(&front, split_name(one.trim()).0))),
                None => found.push(front),
            }
        }
    }
    found
}

/// The names that the root of the crate exports, with their modules.
fn exports(root: &str) -> BTreeMap<&str, &str> {
    let uses = root.split("\npub use ").skip(1).filter_map(|text| text.split_once(';')?.0.split_once("::"));
    uses.flat_map(|(module, names)| {
        names.split(|character| !is_in_name(character)).filter(|name| !name.is_empty()).map(move |name| (name, module))
    })
    .collect()
}

/// The module that a path from the root of the crate leads into.
fn resolve(path: &str, texts: &Texts, exported: &BTreeMap<&str, &str>) -> Option<String> {
    let first = path.split("::").next()?;
    if let Some(module) = exported.get(first) {
        return Some((*module).to_owned());
    }
    let mut path = path;
    while !texts.contains_key(path) {
        path = path.rsplit_once("::")?.0;
    }
    (!path.is_empty()).then(|| path.to_owned())
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

fn split_name(text: &str) -> (&str, &str) {
    text.split_at(text.find(|character: char| !is_in_name(character)).unwrap_or(text.len()))
}

fn is_in_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
