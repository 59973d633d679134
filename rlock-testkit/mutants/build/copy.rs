//! Sources of another crate, as one text.

use std::fs;
use std::path::Path;

/// The visibilities that a module without a body may have.
const VISIBILITIES: [&str; 4] = ["", "pub ", "pub(crate) ", "pub(super) "];

/// The source of the module in `file`, with its submodules inline, and without tests that have a file of their own.
pub(crate) fn module(file: &Path) -> String {
    let is_named_after_folder = file.ends_with("mod.rs") || file.ends_with("lib.rs");
    let folder = if is_named_after_folder { file.with_file_name("") } else { file.with_extension("") };
    let text = source(file).replace("#[cfg(test)]\nmod tests;", "");
    text.lines().fold(String::new(), |text, line| match declared(line) {
        Some((visibility, name)) => {
            let files = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
            let file = files.iter().find(|file| file.exists()).expect("a module has a file");
            format!("{text}{visibility}mod {name} {{\n{}\n}}\n", module(file))
        }
        None => format!("{text}{line}\n"),
    })
}

/// The visibility and the name of the module that a line declares without a body.
fn declared(line: &str) -> Option<(&str, &str)> {
    let (visibility, name) = line.strip_suffix(';')?.split_once("mod ")?;
    VISIBILITIES.contains(&visibility).then_some((visibility, name))
}

/// A source file without indentation, so that snippets of several lines are easy to find, and without its head comment.
pub(crate) fn source(path: &Path) -> String {
    let source = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let kept = source.lines().map(str::trim).filter(|line| !line.starts_with("//!"));
    kept.collect::<Vec<_>>().join("\n")
}
