//! Runs each mutant against the cases that have to catch it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rlock_mutants::{MUTANTS, SWITCH};

use crate::child;
use crate::harness::OURS;

/// Number of concurrent runs. They wait far more than they compute.
const AT_A_TIME: usize = 12;

/// A fixed seed, so that random choices are the same in each run.
const SEED: (&str, &str) = ("RLOCK_TEST_SEED", "1");

/// Each case that the list names catches its mutant, and every case can fail.
#[test]
fn every_mutant_is_caught() {
    let cases = cases();
    let runs: Vec<(&str, &str)> =
        MUTANTS.iter().flat_map(|mutant| mutant.cases.iter().map(|case| (mutant.name, *case))).collect();
    let mut complaints = gaps(&cases, &runs);

    let started = Instant::now();
    let mut verdicts = run_all(&runs);
    verdicts.sort_by_key(|(run, ..)| *run);
    for (run, took, verdict) in verdicts {
        let (mutant, case) = runs[run];
        match verdict {
            Ok(said) => println!("{mutant} | {case} | {:.1} s | {said}", took.as_secs_f64()),
            Err(why) => complaints.push(format!("{mutant} | {case} | {:.1} s | {why}", took.as_secs_f64())),
        }
    }
    println!("{} mutants, {} runs, {} cases, {:?}", MUTANTS.len(), runs.len(), cases.len(), started.elapsed());
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// The cases of the suite, from the list of tests of this program.
fn cases() -> BTreeSet<String> {
    let output = Command::new(child::this_program()).args(["--list", "--format", "terse"]).output();
    let listed = String::from_utf8(output.expect("this program can list its tests").stdout).expect("names are text");
    let case = |line: &str| Some(line.strip_suffix(": test")?.strip_prefix("reference::")?.to_owned());
    let cases: BTreeSet<String> = listed.lines().filter_map(case).collect();
    assert!(cases.len() > 50, "a suite of {} cases", cases.len());
    cases
}

/// Cases without a mutant in the list, and cases in the list that do not exist.
fn gaps(cases: &BTreeSet<String>, runs: &[(&str, &str)]) -> Vec<String> {
    let mut caught: BTreeMap<&str, usize> = cases.iter().map(|case| (case.as_str(), 0)).collect();
    let mut complaints = Vec::new();
    for (_, case) in runs {
        match caught.get_mut(case) {
            Some(times) => *times += 1,
            None => complaints.push(format!("the list names {case}, which is not a case")),
        }
    }
    let never = caught.iter().filter(|(_, times)| **times == 0);
    complaints.extend(never.map(|(case, _)| format!("no mutant has to be caught by {case}: can it fail?")));
    complaints
}

type Verdict = Result<String, String>;

fn run_all(runs: &[(&str, &str)]) -> Vec<(usize, Duration, Verdict)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            let Some((mutant, case)) = runs.get(run) else { return done };
            let started = Instant::now();
            let verdict = run_one(mutant, case);
            done.push((run, started.elapsed(), verdict));
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    })
}

/// Runs a case with a mutant. Returns the failure message of the case, or the reason why that is not a proper failure.
fn run_one(mutant: &str, case: &str) -> Verdict {
    let (passed, said) = child::run(&format!("reference::{case}"), &[(SWITCH, mutant), SEED])?;
    let words = said.lines().find(|line| line.starts_with('[') && line.contains(&format!("] reference, {case}: ")));
    match words {
        _ if passed => Err("it was not noticed".to_owned()),
        Some(words) if !words.contains(OURS) => Ok(words.to_owned()),
        _ => Err(format!("the case did not fail as cases do:\n{said}")),
    }
}
