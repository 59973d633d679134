//! Copies the reference backend and the state machine of a lease into this crate. Each mutant of `mutants.txt` and of
//! `machine.txt` can be switched on in the copies.

#[path = "build/choices.rs"]
mod choices;
#[path = "build/copy.rs"]
mod copy;
#[path = "build/list.rs"]
mod list;

use std::path::Path;
use std::{env, fs};

use choices::mutate;
use list::{listed, parse};

const REFERENCE: &str = "../../rlock-core/src/memory.rs";
const MACHINE: &str = "../../rlock-core/src/lease";
const LIST: &str = "mutants.txt";
const MACHINE_LIST: &str = "machine.txt";

fn main() {
    for input in [REFERENCE, MACHINE, LIST, MACHINE_LIST, "src"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let out = env::var_os("OUT_DIR").expect("cargo says where to write");
    let write = |file: &str, text: String| fs::write(Path::new(&out).join(file), text).expect("it can be written");
    let mutants = parse(LIST);
    write("memory.rs", mutate(&reference(), &mutants));
    write("list.rs", listed(&mutants));
    let mutants = parse(MACHINE_LIST);
    write("machine.rs", mutate(&machine(), &mutants));
    write("machine_list.rs", listed(&mutants));
}

/// The source of the reference, as a module of this crate.
fn reference() -> String {
    let source = copy::source(Path::new(REFERENCE));
    assert_eq!(source.matches("use crate::{").count(), 1, "{REFERENCE} has one import of its crate");
    source.replace("use crate::{", "use rlock_core::{")
}

/// The source of the state machine, as one module of this crate, with its model and without its tests.
fn machine() -> String {
    let text = copy::module(&Path::new(MACHINE).join("mod.rs"));
    text.replace("#[cfg(test)]\n", "")
        .replace("crate::clock::", "rlock_core::")
        .replace("crate::contract::", "rlock_core::")
        .replace("crate::lease::", "crate::machine::copy::")
}
