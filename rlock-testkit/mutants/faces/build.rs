//! Copies core into this crate. Each mutant of `faces.txt` can be switched on in the copy.

#[path = "../build/choices.rs"]
mod choices;
#[path = "../build/copy.rs"]
mod copy;
#[path = "../build/list.rs"]
mod list;

use std::path::Path;
use std::{env, fs};

use choices::mutate;
use list::{listed, parse};

const CORE: &str = "../../../rlock-core/src";
const LIST: &str = "faces.txt";

fn main() {
    for input in [CORE, LIST] {
        println!("cargo::rerun-if-changed={input}");
    }
    let out = env::var_os("OUT_DIR").expect("cargo says where to write");
    let write = |file: &str, text: String| fs::write(Path::new(&out).join(file), text).expect("it can be written");
    let mutants = parse(LIST);
    write("core.rs", mutate(&copy::module(&Path::new(CORE).join("lib.rs")), &mutants));
    write("list.rs", listed(&mutants));
}
