//! Modules import downwards only: in the kit no two modules need each other, and in the other crates no two of those
//! that the root of the crate declares.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The text of each module; the root of the crate has the empty name.
type Texts = BTreeMap<String, String>;

/// The modules that each module needs: those that it names, and those that it declares.
type Needs = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_of_the_kit_import_downwards_only() {
    let needs = needs_of(&texts_of("rlock-testkit"));
    assert!(needs["conformance"].contains("run"), "{needs:?}");
    assert!(needs["contest::arena"].contains("history"), "{needs:?}");
    let circles = circles(needs);
    assert!(circles.is_empty(), "these modules need each other: {circles:?}");
}

#[test]
fn outer_modules_import_downwards_only() {
    for (package, above, below) in [
        ("rlock", "connect", "memory"),
        ("rlock-core", "lock", "client"),
        ("rlock-redis", "backend", "config"),
        ("rlock-etcd", "backend", "config"),
        ("rlock-postgres", "backend", "config"),
        ("rlock-sqlite", "backend", "config"),
        ("rlock-cli", "run", "exit"),
    ] {
        let needs = outer(needs_of(&texts_of(package)));
        assert!(needs[above].contains(below), "{package}: {needs:?}");
        let circles = circles(needs);
        assert!(circles.is_empty(), "these modules of {package} need each other: {circles:?}");
    }
}

#[test]
fn modules_that_need_each_other_are_found() {
    let of = |texts: &[(&str, &str)]| {
        circles(needs_of(&texts.iter().map(|(module, text)| ((*module).to_owned(), (*text).to_owned())).collect()))
    };
    let root = ("", "/// One.\npub use one::{\n    One, Other,\n};\npub use two::Two;");
    assert!(of(&[root, ("one", "use crate::two::Two;"), ("two", "")]).is_empty());
    assert_eq!(of(&[root, ("one", "use crate::two::Two;"), ("two", "use crate::{Third, Other};")]), ["one", "two"]);
    assert_eq!(
        of(&[root, ("one", "f(super::two::g())"), ("two", "use crate::one::One;"), ("three", "crate::two::Two")]),
        ["one", "two"]
    );
    assert_eq!(of(&[root, ("one", "pub use two::Two;"), ("one::two", "use super::One;")]), ["one", "one::two"]);
}

/// The sources of a package of the workspace.
fn texts_of(package: &str) -> Texts {
    let mut texts = Texts::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("src"), "", &mut texts);
    texts
}

fn read(folder: &Path, module: &str, texts: &mut Texts) {
    for entry in fs::read_dir(folder).expect("the sources can be listed") {
        let path = entry.expect("the sources can be listed").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("names of modules are text");
        let inner = if matches!(name, "lib" | "main" | "mod") { module.to_owned() } else { join(module, name) };
        if path.is_dir() {
            read(&path, &inner, texts);
        } else {
            texts.insert(inner, fs::read_to_string(&path).expect("sources are text"));
        }
    }
}

fn needs_of(texts: &Texts) -> Needs {
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

/// The same for the modules that the root of the crate declares, each with all modules inside it.
fn outer(needs: Needs) -> Needs {
    let outer = |module: &str| split_name(module).0.to_owned();
    let mut all = Needs::new();
    for (module, below) in needs {
        let module = outer(&module);
        let below: Vec<String> = below.iter().map(|other| outer(other)).filter(|other| *other != module).collect();
        all.entry(module).or_default().extend(below);
    }
    all
}

/// The modules that are part of a circle, or between two circles.
fn circles(mut needs: Needs) -> Vec<String> {
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
fn code(text: &str) -> String {
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
    let uses = root.split(';').filter_map(|statement| statement.rsplit_once("pub use ")?.1.split_once("::"));
    uses.flat_map(|(module, names)| {
        let names = names.split(['{', '}', ',']).map(str::trim).filter(|name| !name.is_empty());
        names.map(move |name| (name, module))
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
