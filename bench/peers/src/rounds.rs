//! Rounds in which all libraries take turns.

use std::io::{IsTerminal as _, Write as _, stderr};

use rlock_testkit::bench::{Observer, Row};

use crate::args::Args;
use crate::measured::Measured;
use crate::point::Point;
use crate::table;

/// Runs one step after the other, each in rounds, and prints its block as soon as it is complete.
pub async fn run(args: &Args, subjects: &[Box<dyn Measured>]) -> anyhow::Result<()> {
    table::notes(args, subjects);
    for (benchmark, plan) in args.steps() {
        let mut points = Vec::new();
        for round in 0..usize::from(args.rounds) {
            for turn in 0..subjects.len() {
                let subject = &subjects[(round + turn) % subjects.len()]; // no library is always the first
                let mut listener = Listener { who: subject.name(), round, points: &mut points };
                subject.measure(benchmark, &plan, &mut listener).await?;
            }
        }
        progress("");
        table::print(&points, subjects);
    }
    Ok(())
}

struct Listener<'a> {
    who: &'static str,
    round: usize,
    points: &'a mut Vec<Point>,
}

impl Observer for Listener<'_> {
    fn begins(&mut self, what: &str) {
        progress(&format!("round {}, {}: {what}", self.round + 1, self.who));
    }

    fn row(&mut self, row: Row) {
        self.points.extend(Point::of(&row, self.who, self.round));
    }
}

fn progress(text: &str) {
    if stderr().is_terminal() {
        let _closed = write!(stderr(), "\r\x1b[K{text}");
    }
}
