//! Turns the blocks of code in docs/watchdog*.md into functions, so that the tests run the printed code.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    for language in ["en", "zh"] {
        let page = if language == "en" { "watchdog.md" } else { "watchdog.zh.md" };
        let path = Path::new("../docs").join(page);
        println!("cargo:rerun-if-changed={}", path.display());
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let out = env::var_os("OUT_DIR").expect("cargo says where");
        fs::write(Path::new(&out).join(format!("guide_{language}.rs")), functions(&text)).expect("the folder is there");
    }
}

/// Writes a function for each block, and one that runs all of them.
fn functions(page: &str) -> String {
    const NAME: &str = "<!-- block: ";
    let (mut code, mut names) = (String::new(), Vec::new());
    let mut lines = page.lines();
    let mut name = None;
    while let Some(line) = lines.next() {
        if let Some(given) = line.strip_prefix(NAME) {
            name = given.strip_suffix(" -->");
        } else if line == "```rust" {
            let name = name.take().unwrap_or_else(|| panic!("a block of code has no {NAME}… --> above it"));
            let body: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            let head = "(url: &str, client: &Client) -> anyhow::Result<()>";
            writeln!(code, "async fn {name}{head} {{\n{}\nOk(())\n}}", body.join("\n")).expect("a string takes all");
            names.push(name);
        } else if line.starts_with("```") {
            assert_eq!(line, "```text", "only code that is run, and text");
            let _text = lines.by_ref().take_while(|line| *line != "```").count();
        }
    }
    let calls = names.iter().map(|name| {
        format!("{name}(url, &connect().await?).await.map_err(|error| error.context(\"the block {name}\"))?;\n")
    });
    let calls: String = calls.collect();
    writeln!(
        code,
        "pub(crate) const NAMES: &[&str] = &{names:?};\n\
         pub(crate) async fn run_all(url: &str) -> anyhow::Result<()> {{\n\
         let connect = || rlock::connect(url);\n{calls}Ok(())\n}}"
    )
    .expect("a string takes all");
    code
}
