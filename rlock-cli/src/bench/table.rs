//! Rows as a table of 80 columns.

use std::time::Duration;

use rlock_testkit::bench::{Figure, Row, Unit};

use super::format::{count, ratio, significant, time};

const COLUMNS: usize = 80;
const INDENT: &str = "    ";

/// The line above all rows.
pub(super) fn head() -> String {
    line(["", "tasks", "p50", "p99", "per second", "ratio"].map(str::to_owned))
}

/// A row, followed by the figures that only its benchmark has.
pub(super) fn row(row: &Row) -> String {
    let or_nothing = |text: Option<String>| text.unwrap_or_default();
    let mut text = line([
        row.what.clone(),
        count(row.tasks as f64),
        or_nothing(row.p50.map(time)),
        or_nothing(row.p99.map(time)),
        or_nothing(row.per_second.map(count)),
        or_nothing(row.ratio.map(ratio)),
    ]);
    let mut below = String::new();
    for figure in figures(&row.figures) {
        if !below.is_empty() && INDENT.len() + below.chars().count() + 2 + figure.chars().count() > COLUMNS {
            text.push_str(&format!("{INDENT}{below},\n"));
            below.clear();
        }
        below.push_str(if below.is_empty() { "" } else { ", " });
        below.push_str(&figure);
    }
    if !below.is_empty() {
        text.push_str(&format!("{INDENT}{below}\n"));
    }
    text
}

fn line([what, tasks, p50, p99, per_second, ratio]: [String; 6]) -> String {
    let line = format!("{what:<33}{tasks:>8}{p50:>10}{p99:>10}{per_second:>11} {ratio:>7}");
    format!("{}\n", line.trim_end())
}

/// The figures with their labels. A ratio joins the figure before it.
fn figures(figures: &[Figure]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for figure in figures {
        let value = match figure.unit {
            Unit::Count => count(figure.value),
            Unit::Micros => time(Duration::try_from_secs_f64(figure.value / 1e6).unwrap_or_default()),
            Unit::Percent => format!("{} %", significant(figure.value)),
            Unit::Bytes => format!("{} bytes", count(figure.value.round())),
            Unit::Times => ratio(figure.value),
        };
        match texts.last_mut() {
            Some(last) if figure.unit == Unit::Times && figure.label.is_empty() => {
                last.push_str(&format!(" ({value})"))
            }
            _ => texts.push(format!("{value} {}", figure.label)),
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use rlock_testkit::bench::Benchmark;

    use super::*;

    #[test]
    fn rows_fit_eighty_columns() {
        let figure =
            |name: &str, label: &str, value, unit| Figure { name: name.into(), label: label.into(), value, unit };
        let text = row(&Row {
            benchmark: Benchmark::Cpu,
            is_bare: false,
            what: "lock + unlock, caller's runtime".into(),
            tasks: 100_000,
            samples: 1,
            p50: Some(Duration::from_micros(999_400)),
            p99: Some(Duration::from_micros(999_400)),
            per_second: Some(1_234_567.0),
            ratio: Some(12.345),
            figures: vec![
                figure("client_cpu_us", "of the client", 31.25, Unit::Micros),
                figure("client_cpu_ratio", "", 1.4, Unit::Times),
                figure("server_cpu_us", "of the server", 1_500.0, Unit::Micros),
                figure("bytes_of_log_per_cycle", "bytes of log a cycle", 1_234.0, Unit::Count),
            ],
        });
        let expected = "\
lock + unlock, caller's runtime   100,000    999 ms    999 ms  1,234,567 12.35 x
    31.2 µs of the client (1.40 x), 1.50 ms of the server,
    1,234 bytes of log a cycle
";
        assert_eq!(text, expected);
        assert!(head().ends_with("p50       p99 per second   ratio\n"), "{}", head());
        assert!(text.lines().chain(head().lines()).all(|line| line.chars().count() <= COLUMNS), "{text}");
    }
}
