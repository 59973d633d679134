//! Every example runs as it stands, and shows what it says it shows.

use std::process::Command;

fn run(program: &str) -> String {
    let output = Command::new(program).env_remove("RLOCK_URL").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program}: {}\n{out}{err}", output.status);
    out.into_owned()
}

#[test]
fn quickstart() {
    let out = run(env!("CARGO_BIN_EXE_quickstart"));
    assert!(out.contains("held with token") && out.ends_with("given back\n"), "{out}");
}

#[test]
fn long_running_job() {
    let out = run(env!("CARGO_BIN_EXE_long_running_job"));
    assert!(out.contains("batch 6 is done") && out.ends_with(", 0 failed\n"), "{out}");
}

#[test]
fn waiting_process() {
    let out = run(env!("CARGO_BIN_EXE_waiting_process"));
    let order = ["first: working", "second: waiting", "first: done, 1 waits", "second: my turn"];
    let at: Vec<usize> =
        order.iter().map(|line| out.find(line).unwrap_or_else(|| panic!("no {line}: {out}"))).collect();
    assert!(at.is_sorted(), "{out}");
}

#[test]
fn stale_token() {
    let out = run(env!("CARGO_BIN_EXE_stale_token"));
    assert!(out.contains("wakes up and is rejected"), "{out}");
}

#[test]
fn custom_backend() {
    let out = run(env!("CARGO_BIN_EXE_custom_backend"));
    let lines: Vec<&str> = out.lines().collect();
    let (last, turns) = lines.split_last().unwrap();
    for turn in turns.chunks(2) {
        let (worker, _) = turn[0].split_once(": my turn").unwrap_or_else(|| panic!("{out}"));
        assert!(turn[1].starts_with(&format!("{worker}: done")), "two at a time: {out}");
    }
    assert_eq!((turns.len(), *last), (12, "all turns are over, 0 keys are left in the store"), "{out}");
}
