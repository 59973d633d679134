//! Copies core into this crate. Each mutant of `faces.txt` can be switched on in the copy.

#[path = "../build/choices.rs"]
mod choices;
#[path = "../build/copy.rs"]
mod copy;
#[path = "../build/table.rs"]
mod table;

use std::path::Path;
use std::{env, fs};

use choices::mutate;
use table::{listed, parse};

const CORE: &str = "../../../rlock-core/src";
const TABLE: &str = "faces.txt";

fn main() {
    for input in [CORE, TABLE] {
        println!("cargo::rerun-if-changed={input}");
    }
    let out = env::var_os("OUT_DIR").expect("cargo says where to write");
    let write = |file: &str, text: String| fs::write(Path::new(&out).join(file), text).expect("it can be written");
    let mutants = parse(TABLE);
    write("core.rs", mutate(&copy::module(&Path::new(CORE).join("lib.rs")), &mutants));
    write("table.rs", listed(&mutants));
}
