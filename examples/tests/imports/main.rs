//! The modules of each crate import downwards only: no two of them need each other.

mod modules;

use std::path::{Path, PathBuf};

use modules::{circles, code, modules_of, needs_of, siblings_in};

#[test]
fn modules_of_the_kit_import_downwards_only() {
    let needs = needs_of(&modules_of(&workspace().join("rlock-testkit")));
    assert!(needs["conformance"].contains("run"), "{needs:?}");
    assert!(needs["contest::arena"].contains("history"), "{needs:?}");
    let circles = circles(needs);
    assert!(circles.is_empty(), "these modules need each other: {circles:?}");
}

/// In the other crates, a module and the modules inside it may need each other.
#[test]
fn siblings_in_each_crate_import_downwards_only() {
    let crates = crates();
    assert!(crates.contains(&workspace().join("rlock-core")), "{crates:?}");
    for folder in crates {
        let needs = needs_of(&modules_of(&folder));
        for module in needs.keys().map(String::as_str).chain([""]) {
            let circles = circles(siblings_in(module, &needs));
            let place = folder.join("src").join(module.replace("::", "/"));
            assert!(circles.is_empty(), "{}: these modules need each other: {circles:?}", place.display());
        }
    }
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

/// The folders of the packages of the workspace, and of the one outside it.
fn crates() -> Vec<PathBuf> {
    let manifest = include_str!("../../../Cargo.toml");
    let (_, members) = manifest.split_once("\nmembers = [").expect("the workspace lists its members");
    let (members, _) = members.split_once(']').expect("the list has an end");
    members.split('"').skip(1).step_by(2).chain(["bench/peers"]).map(|folder| workspace().join(folder)).collect()
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the examples are a folder of the workspace")
}
