//! Runs each mutant against the tests that have to catch it.

use rlock_core::{MUTANTS, SWITCH};

use crate::child;

#[test]
fn every_mutant_is_caught() {
    let mut complaints = Vec::new();
    for mutant in MUTANTS {
        for test in mutant.cases {
            let name = mutant.name;
            match run_one(name, test) {
                Ok(said) => println!("{name} | {test} | {said}"),
                Err(why) => complaints.push(format!("{name} | {test} | {why}")),
            }
        }
    }
    println!("{} mutants", MUTANTS.len());
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// Runs a test with a mutant. Returns the message of its panic, or the reason why there is none.
fn run_one(mutant: &str, test: &str) -> Result<String, String> {
    let (passed, said) = child::run(test, &[(SWITCH, mutant)])?;
    let message = said.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
    match message {
        Some(message) if !passed => Ok(message.to_owned()),
        _ => Err(format!("it was not noticed:\n{said}")),
    }
}
