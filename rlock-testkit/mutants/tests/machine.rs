//! Runs each mutant of the state machine of a lease against the explorations that have to catch it.

use std::env;
use std::process::{Command, Stdio};
use std::time::Instant;

use rlock_mutants::{MACHINE_MUTANTS, SWITCH, machine};

const EXPLORATION: &str = "RLOCK_EXPLORATION";

/// Runs the exploration and the mutant that the environment names.
#[test]
fn exploration_finds_nothing() {
    let name = env::var(EXPLORATION).unwrap_or_else(|_| "small loss".to_owned());
    machine::explore(&name).unwrap();
}

#[test]
fn every_mutant_is_caught() {
    let program = env::current_exe().unwrap();
    let mut complaints = Vec::new();
    for mutant in MACHINE_MUTANTS {
        for case in mutant.cases {
            let begun = Instant::now();
            let output = Command::new(&program)
                .args(["--exact", "exploration_finds_nothing", "--nocapture"])
                .envs([(SWITCH, mutant.name), (EXPLORATION, case), ("RUST_BACKTRACE", "0")])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let property = said.lines().find_map(|line| line.split_once("Err` value: ")).map(|(_, property)| property);
            match property.filter(|_| !output.status.success()) {
                Some(property) => {
                    let property: String = property.chars().take(100).collect();
                    println!("{} | {case} | {:.1} s | {property}", mutant.name, begun.elapsed().as_secs_f64());
                }
                None => complaints.push(format!("{} | {case}: not noticed\n{said}", mutant.name)),
            }
        }
    }
    println!("{} mutants", MACHINE_MUTANTS.len());
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}
