//! A test of this program that runs in a process of its own.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

/// Longer than the time limit of a case, which is a minute.
const LIMIT: Duration = Duration::from_secs(100);

/// Runs the test called `test` with these variables. Returns whether it passed, and its output; an error if it hangs.
pub(crate) fn run(test: &str, variables: &[(&str, &str)]) -> Result<(bool, String), String> {
    let mut output = tempfile::tempfile().expect("the system has a place for temporary files");
    let to = || Stdio::from(output.try_clone().expect("a file handle can be cloned"));
    let mut child = Command::new(this_program())
        .args([test, "--exact", "--nocapture"])
        .envs(variables.iter().copied())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(to())
        .stderr(to())
        .spawn()
        .expect("the system starts another process");
    let passed = ends(&mut child)?;
    Ok((passed, contents(&mut output)))
}

/// Waits for the end of the test. Returns whether it passed.
fn ends(child: &mut Child) -> Result<bool, String> {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if started.elapsed() < LIMIT => thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                let _ended_meanwhile = (child.kill(), child.wait());
                return Err(format!("it hung for {LIMIT:?}"));
            }
            Err(error) => return Err(format!("its exit status is unknown: {error}")),
        }
    }
}

fn contents(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("what was written can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn this_program() -> PathBuf {
    env::current_exe().expect("the system knows which program this is")
}
