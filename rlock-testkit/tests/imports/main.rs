//! The modules of each crate import downwards only: no two of them need each other.

mod modules;

use std::fs;
use std::path::Path;

use modules::{circles, code, modules_of, needs_of, siblings_in};

#[test]
fn modules_import_downwards_only() {
    let needs = needs_of(&modules_of(Path::new(env!("CARGO_MANIFEST_DIR"))));
    assert!(needs["conformance"].contains("run"), "{needs:?}");
    assert!(needs["contest::arena"].contains("history"), "{needs:?}");
    let circles = circles(needs);
    assert!(circles.is_empty(), "these modules need each other: {circles:?}");
}

/// In the other crates, a module and the modules inside it may need each other.
#[test]
fn siblings_in_each_crate_import_downwards_only() {
    let crates = fs::read_dir(workspace()).expect("the workspace can be listed");
    let mut seen = 0;
    for folder in crates.map(|entry| entry.expect("the workspace can be listed").path()) {
        if !folder.join("src").is_dir() || !folder.join("Cargo.toml").is_file() {
            continue;
        }
        seen += 1;
        let needs = needs_of(&modules_of(&folder));
        for module in needs.keys().map(String::as_str).chain([""]) {
            let circles = circles(siblings_in(module, &needs));
            let place = folder.join("src").join(module.replace("::", "/"));
            assert!(circles.is_empty(), "{}: these modules need each other: {circles:?}", place.display());
        }
    }
    assert!(seen >= 8, "{seen} crates");
}

/// The machine has no I/O, no threads and no clock.
#[test]
fn lease_needs_only_the_contract() {
    let texts = modules_of(&workspace().join("rlock-core"));
    let needs = siblings_in("", &needs_of(&texts));
    assert!(needs["driver"].contains("lease") && needs["lock"].contains("driver"), "{needs:?}");
    assert_eq!(needs["lease"].iter().map(String::as_str).collect::<Vec<_>>(), ["clock", "contract"]);

    let is_machine = |module: &str| {
        let mut names = module.split("::");
        names.next() == Some("lease") && !matches!(names.next(), Some("model" | "tests"))
    };
    let machine: Vec<_> = texts.iter().filter(|(module, _)| is_machine(module)).collect();
    assert!(machine.iter().any(|(module, _)| *module == "lease::held"), "{machine:?}");
    for (module, text) in machine {
        let code = code(text);
        for word in ["tokio", "tracing", "metrics", "std::sync", "std::thread", "Instant", "SystemTime", "now()"] {
            assert!(!code.contains(word), "{module} mentions {word}");
        }
    }
}

#[test]
fn modules_that_need_each_other_are_found() {
    let of = |texts: &[(&str, &str)]| {
        needs_of(&texts.iter().map(|(module, text)| ((*module).to_owned(), (*text).to_owned())).collect())
    };
    let fine = |texts: &[(&str, &str)]| circles(of(texts));
    let root = ("", "mod one;\npub use one::{One,\n    Other};");
    assert!(fine(&[root, ("one", "use crate::two::Two;"), ("two", "")]).is_empty());
    assert_eq!(fine(&[root, ("one", "use crate::two::Two;"), ("two", "use crate::{Third, Other};")]), ["one", "two"]);
    assert_eq!(
        fine(&[root, ("one", "f(super::two::g())"), ("two", "use crate::one::One;"), ("three", "crate::two::Two")]),
        ["one", "two"]
    );
    let folder = [root, ("one", "pub use two::Two;"), ("one::two", "use super::One;")];
    assert_eq!(fine(&folder), ["one", "one::two"]);
    assert!(circles(siblings_in("", &of(&folder))).is_empty());
    let folders = [root, ("one::a", "use crate::two::b;"), ("one", ""), ("two", ""), ("two::b", "use crate::One;")];
    assert_eq!(circles(siblings_in("", &of(&folders))), ["one", "two"]);
    let inner = [root, ("one", ""), ("one::a", "use super::b::B;"), ("one::b", "use crate::one::a::A;")];
    assert!(circles(siblings_in("", &of(&inner))).is_empty());
    assert_eq!(circles(siblings_in("one", &of(&inner))), ["a", "b"]);
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the kit is a folder of the workspace")
}
