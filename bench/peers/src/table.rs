//! The table, with a block for each measurement and a line for each library.

use crate::args::Args;
use crate::measured::Measured;
use crate::point::{BARE, Point};

const COLUMNS: usize = 93;

/// Prints the notes on the libraries, above all blocks.
pub fn notes(args: &Args, subjects: &[Box<dyn Measured>]) {
    wrapped(&format!(
        "Medians of {} rounds in which all take turns. `x bare` is the cost divided by that of the store without \
         locks, as in `rlock bench`. `rlock /` and `own thr. /` are rlock's cost, for clients on the caller's runtime \
         and on a separate thread, divided by that of the line: below 1, rlock costs less.",
        args.rounds
    ));
    if cfg!(debug_assertions) {
        println!("This is a debug build, whose figures are meaningless: build it with --release.");
    }
    for subject in subjects.iter().filter(|subject| !subject.note().is_empty()) {
        println!();
        wrapped(&format!("{}: {}", subject.name(), subject.note()));
    }
}

/// Prints the blocks of these points, in the order of measurement.
pub fn print(points: &[Point], subjects: &[Box<dyn Measured>]) {
    let mut titles: Vec<&str> = Vec::new();
    for point in points {
        if !titles.contains(&point.title.as_str()) {
            titles.push(&point.title);
        }
    }
    for title in titles {
        let block: Vec<_> = points.iter().filter(|point| point.title == title).collect();
        let columns = if block[0].cpu.is_some() { ["", "", "CPU each"] } else { ["p50", "p99", "per second"] };
        let [p50, p99, rate] = columns;
        println!("\n{}", line([title, p50, p99, rate, "x bare", "rlock /", "own thr. /"].map(str::to_owned)));
        for who in [BARE].into_iter().chain(subjects.iter().map(|subject| subject.name())) {
            print_one(&block, who, subjects);
        }
    }
}

fn print_one(block: &[&Point], who: &str, subjects: &[Box<dyn Measured>]) {
    let own: Vec<_> = block.iter().copied().filter(|point| point.who == who).collect();
    let Some(first) = own.first() else { return };
    let of = |figure: fn(&Point) -> Option<f64>| median(own.iter().filter_map(|point| figure(point)).collect());
    let beside = |rlock: &dyn Measured| {
        let ratios = own.iter().filter_map(|point| {
            let rlock = block.iter().find(|other| other.who == rlock.name() && other.round == point.round)?;
            Some(rlock.cost? / point.cost?)
        });
        (rlock.name() != who).then(|| median(ratios.collect())).flatten()
    };
    let show = |figure: Option<f64>, format: fn(f64) -> String| figure.map(format).unwrap_or_default();
    let rate = show(of(|point| point.per_second), count) + &show(of(|point| point.cpu), time);
    println!(
        "{}",
        line([
            who.to_owned(),
            show(of(|point| point.p50), time),
            show(of(|point| point.p99), time),
            rate,
            show(of(|point| point.beside_bare), ratio),
            show(beside(&*subjects[0]), ratio),
            show(beside(&*subjects[1]), ratio),
        ])
    );
    let counted = first.counts.iter().enumerate().filter_map(|(at, (label, _))| {
        let all = own.iter().filter_map(|point| Some(point.counts.get(at)?.1)).collect();
        Some(format!("{} {label}", count(median(all)?)))
    });
    let counted: Vec<_> = counted.collect();
    if !counted.is_empty() {
        println!("    {}", counted.join(", "));
    }
}

fn line([title, p50, p99, rate, bare, caller, own]: [String; 7]) -> String {
    let line = format!("{title:<31}{p50:>10}{p99:>10}{rate:>12}{bare:>9}{caller:>9}{own:>12}");
    line.trim_end().to_owned()
}

fn wrapped(text: &str) {
    let mut line = String::new();
    for word in text.split(' ') {
        if line.chars().count() + word.chars().count() >= COLUMNS {
            println!("{}", line.trim_end());
            line.clear();
        }
        line.push_str(word);
        line.push(' ');
    }
    println!("{}", line.trim_end());
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

fn time(seconds: f64) -> String {
    match seconds {
        ..1e-3 => format!("{} µs", digits(seconds * 1e6)),
        1e-3..1.0 => format!("{} ms", digits(seconds * 1e3)),
        _ => format!("{} s", digits(seconds)),
    }
}

fn count(number: f64) -> String {
    digits(number)
}

fn ratio(ratio: f64) -> String {
    format!("{ratio:.2} x")
}

/// Formats with three digits, or with all digits before the decimal point.
fn digits(number: f64) -> String {
    match number {
        ..9.995 => format!("{number:.2}"),
        9.995..99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}
